"""What a repository and a commit are called: any case, former names, short ids."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from toolkit.hub.local.serve import running_hub

LARGE = bytes(range(256)) * 64


@pytest.fixture
def endpoint(tmp_path) -> Iterator[str]:
    with running_hub(tmp_path / "hub", tokens={"hf_a": "ash", "hf_m": "misty"}) as url:
        yield url


@pytest.fixture
def ash(endpoint) -> HfApi:
    return HfApi(endpoint=endpoint, token="hf_a")


def commit(api: HfApi, repo: str, **files: bytes) -> str:
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    return api.create_commit(repo, operations, commit_message="files").oid


def test_a_repository_is_found_by_its_name_in_any_case_and_answers_with_its_own(ash, tmp_path):
    ash.create_repo("ash/Pikachu-LoRA")
    commit(ash, "ASH/pikachu-lora", text=b"a", large=LARGE)
    assert ash.model_info("Ash/PIKACHU-lora").id == "ash/Pikachu-LoRA"
    assert [each.id for each in ash.list_models(author="ASH")] == ["ash/Pikachu-LoRA"]
    path = hf_hub_download("ash/pikachu-lora", "large", endpoint=ash.endpoint, token="hf_a", cache_dir=tmp_path)
    assert Path(path).read_bytes() == LARGE
    with pytest.raises(HfHubHTTPError, match="409"):
        ash.create_repo("ash/PIKACHU-LORA")
    assert ash.create_repo("ash/PIKACHU-LORA", exist_ok=True).repo_id == "ash/Pikachu-LoRA"
    assert ash.create_repo("ASH/second").repo_id == "ash/second"
    with pytest.raises(HfHubHTTPError, match="403"):
        HfApi(endpoint=ash.endpoint, token="hf_m").create_repo("ASH/third")
    ash.move_repo("ash/Pikachu-LoRA", "ash/pikachu-lora")
    assert ash.model_info("ash/Pikachu-LoRA").id == "ash/pikachu-lora"
    ash.delete_repo("ash/Pikachu-LORA")
    assert not ash.repo_exists("ash/pikachu-lora")


def test_former_names_lead_to_a_moved_repository(ash, endpoint, tmp_path):
    ash.create_repo("ash/first")
    sha = commit(ash, "ash/first", large=LARGE)
    ash.move_repo("ash/first", "ash/second")
    ash.move_repo("ash/second", "ash/third")
    reply = httpx2.get(f"{endpoint}/ash/first/resolve/main/large?download=true")
    assert (reply.status_code, reply.headers["Location"]) == (307, "/ash/third/resolve/main/large?download=true")
    path = hf_hub_download("ash/First", "large", endpoint=endpoint, token="hf_a", cache_dir=tmp_path)
    assert Path(path).read_bytes() == LARGE
    assert (ash.model_info("ash/first").id, ash.model_info("ash/second").sha) == ("ash/third", sha)
    new = commit(ash, "ash/first", other=LARGE[::-1])
    assert ash.model_info("ash/third").sha == new
    assert httpx2.get(f"{endpoint}/ash/first", headers={"Accept": "text/html"}).headers["Location"] == "/ash/third"


def test_a_former_name_ends_when_it_is_taken_again_or_its_repository_is_deleted(ash):
    ash.create_repo("ash/old", repo_type="dataset")
    ash.move_repo("ash/old", "ash/new", repo_type="dataset")
    with pytest.raises(RepositoryNotFoundError):
        ash.model_info("ash/old")
    ash.create_repo("ash/old", repo_type="dataset")
    assert ash.dataset_info("ash/old").id == "ash/old"
    with pytest.raises(HfHubHTTPError, match="already exists"):
        ash.move_repo("ash/new", "ash/old", repo_type="dataset")
    ash.move_repo("ash/old", "ash/last", repo_type="dataset")
    assert ash.dataset_info("ash/old").id == "ash/last"
    ash.move_repo("ash/new", "ash/old", repo_type="dataset")
    assert (ash.dataset_info("ash/new").id, ash.dataset_info("ash/old").id) == ("ash/old", "ash/old")
    ash.delete_repo("ash/old", repo_type="dataset")
    assert not ash.repo_exists("ash/new", repo_type="dataset")


def test_a_former_name_tells_nobody_who_may_not_see_the_repository(ash, endpoint):
    ash.create_repo("ash/old", private=True)
    ash.move_repo("ash/old", "ash/secret")
    for headers, status in (({}, 401), ({"Authorization": "Bearer hf_m"}, 404)):
        reply = httpx2.get(f"{endpoint}/api/models/ash/old", headers=headers)
        assert (reply.status_code, "secret" in reply.text + str(reply.headers)) == (status, False)


def test_a_commit_is_found_by_the_beginning_of_its_id(ash, endpoint):
    ash.create_repo("ash/a")
    first = commit(ash, "ash/a", text=b"1")
    commit(ash, "ash/a", text=b"2")
    assert ash.model_info("ash/a", revision=first[:7]).sha == first
    reply = httpx2.get(f"{endpoint}/ash/a/resolve/{first[:12]}/text")
    assert (reply.content, reply.headers["X-Repo-Commit"]) == (b"1", first)
    ash.create_tag("ash/a", tag="v1", revision=first[:7])
    assert ash.list_repo_refs("ash/a").tags[0].target_commit == first
    for missing in (first[:6], "0000000", first[:7] + "zz"):
        with pytest.raises(RevisionNotFoundError):
            ash.model_info("ash/a", revision=missing)
