"""What a commit is called: short ids."""

from collections.abc import Iterator

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import RevisionNotFoundError

from toolkit.hub.local.serve import running_hub


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
