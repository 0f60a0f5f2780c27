"""Pull requests in the local Hub, through the real client."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

from toolkit.hub.local.serve import running_hub

LARGE = bytes(range(256)) * 64
REPO = "ash/model"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    """A Hub of ash, who has a model with two files, and misty."""
    with running_hub(tmp_path / "hub", tokens={"token-ash": "ash", "token-misty": "misty"}) as url:
        client(url, "ash").create_repo(REPO)
        commit(client(url, "ash"), {"a.txt": b"a", "b.txt": b"b"})
        yield url


def client(url: str, user: str) -> HfApi:
    return HfApi(endpoint=url, token=f"token-{user}")


def commit(api: HfApi, files: dict[str, bytes], **options: object) -> object:
    operations = [CommitOperationAdd(path, io.BytesIO(content)) for path, content in files.items()]
    return api.create_commit(REPO, operations, commit_message="some files", **options)  # type: ignore[call-overload]


def read(url: str, path: str, revision: str = "main") -> bytes:
    return httpx2.get(f"{url}/{REPO}/resolve/{revision}/{path}").content


def refused(call: object) -> int:
    with pytest.raises(HfHubHTTPError) as raised:
        call()  # type: ignore[operator]
    return raised.value.response.status_code


def test_a_proposal_leaves_main_alone_until_it_is_merged(hub: str, tmp_path: Path) -> None:
    ash, misty = client(hub, "ash"), client(hub, "misty")
    info = commit(misty, {"a.txt": b"A", "large.bin": LARGE}, create_pr=True)
    assert (info.pr_num, info.pr_revision) == (1, "refs/pr/1")  # type: ignore[attr-defined]
    assert info.pr_url == f"{hub}/{REPO}/discussions/1"  # type: ignore[attr-defined]
    assert (read(hub, "a.txt"), read(hub, "a.txt", "refs%2Fpr%2F1")) == (b"a", b"A")
    down = Path(snapshot_download(REPO, revision="refs/pr/1", endpoint=hub, cache_dir=tmp_path / "cache"))
    assert (down / "large.bin").read_bytes() == LARGE
    assert refused(lambda: misty.merge_pull_request(REPO, 1)) == 403
    ash.merge_pull_request(REPO, 1)
    assert (read(hub, "a.txt"), read(hub, "large.bin"), read(hub, "b.txt")) == (b"A", LARGE, b"b")
    assert [each.status for each in ash.get_repo_discussions(REPO)] == ["merged"]
    assert refused(lambda: commit(misty, {"a.txt": b"late"}, revision="refs/pr/1")) == 403
    assert refused(lambda: ash.merge_pull_request(REPO, 1)) == 403


def test_references_list_pull_requests_only_when_asked(hub: str) -> None:
    api = client(hub, "ash")
    oid = commit(api, {"a.txt": b"A"}, create_pr=True).oid  # type: ignore[attr-defined]
    assert api.list_repo_refs(REPO).pull_requests is None
    found = api.list_repo_refs(REPO, include_pull_requests=True).pull_requests
    assert [(each.ref, each.target_commit) for each in found or []] == [("refs/pr/1", oid)]


def test_its_author_commits_to_a_pull_request_and_others_do_not(hub: str) -> None:
    misty = client(hub, "misty")
    commit(misty, {"c.txt": b"1"}, create_pr=True)
    commit(misty, {"c.txt": b"2"}, revision="refs/pr/1")
    assert read(hub, "c.txt", "refs%2Fpr%2F1") == b"2"
    commit(client(hub, "ash"), {"d.txt": b"1"}, create_pr=True)
    assert refused(lambda: commit(misty, {"d.txt": b"2"}, revision="refs/pr/2")) == 403
    with pytest.raises(RevisionNotFoundError):
        commit(client(hub, "ash"), {"d.txt": b"2"}, revision="refs/pr/3")


def test_a_merge_keeps_what_main_changed_elsewhere(hub: str) -> None:
    ash = client(hub, "ash")
    ash.create_commit(
        REPO, [CommitOperationDelete("a.txt"), CommitOperationAdd("c.txt", b"c")], commit_message="x", create_pr=True
    )
    commit(ash, {"b.txt": b"B"})
    ash.merge_pull_request(REPO, 1)
    assert set(ash.list_repo_files(REPO)) == {".gitattributes", "b.txt", "c.txt"}
    assert read(hub, "b.txt") == b"B"


def test_a_pull_request_that_conflicts_is_not_merged(hub: str) -> None:
    ash = client(hub, "ash")
    commit(ash, {"a.txt": b"theirs", "b.txt": b"same"}, create_pr=True)
    commit(ash, {"a.txt": b"ours", "b.txt": b"same"})
    before = ash.model_info(REPO).sha
    with pytest.raises(HfHubHTTPError, match=r"conflicts with main in a\.txt") as raised:
        ash.merge_pull_request(REPO, 1)
    assert raised.value.response.status_code == 409
    assert ash.model_info(REPO).sha == before


def test_a_pull_request_begins_at_the_parent_it_names(hub: str) -> None:
    ash = client(hub, "ash")
    parent = ash.list_repo_commits(REPO)[-1].commit_id
    commit(ash, {"c.txt": b"c"}, create_pr=True, parent_commit=parent[:8])
    assert set(ash.list_repo_files(REPO, revision="refs/pr/1")) == {".gitattributes", "c.txt"}
    assert refused(lambda: commit(ash, {"c.txt": b"c"}, create_pr=True, parent_commit="0" * 40)) == 412


def test_pull_requests_are_listed_by_status_and_author(hub: str) -> None:
    ash, misty = client(hub, "ash"), client(hub, "misty")
    for number in range(4):
        commit(misty if number % 2 else ash, {"c.txt": b"%d" % number}, create_pr=True)
    assert misty.change_discussion_status(REPO, 2, "closed").new_status == "closed"
    assert refused(lambda: misty.change_discussion_status(REPO, 1, "closed")) == 403
    assert refused(lambda: ash.change_discussion_status(REPO, 1, "closed", comment="kept nowhere")) == 400
    assert refused(lambda: ash.merge_pull_request(REPO, 1, comment="kept nowhere")) == 400
    found = {each.num: (each.author, each.status) for each in ash.get_repo_discussions(REPO)}
    assert found == {4: ("misty", "open"), 3: ("ash", "open"), 2: ("misty", "closed"), 1: ("ash", "open")}
    waiting = misty.get_repo_discussions(REPO, author="misty", discussion_type="pull_request", discussion_status="open")
    assert [each.num for each in waiting] == [4]
    assert [each.num for each in ash.get_repo_discussions(REPO, discussion_status="closed")] == [2]
    misty.change_discussion_status(REPO, 2, "open")
    assert len(list(ash.get_repo_discussions(REPO, discussion_status="open"))) == 4


def test_the_page_of_a_pull_request_shows_its_files(hub: str) -> None:
    url = commit(client(hub, "ash"), {"c.txt": b"c"}, create_pr=True).pr_url  # type: ignore[attr-defined]
    page = httpx2.get(url, follow_redirects=True)
    assert (page.status_code, "c.txt" in page.text, "refs/pr/1" in page.text) == (200, True, True)


def test_what_version_0_1_0_kept_is_read(tmp_path: Path) -> None:
    with running_hub(tmp_path) as url:
        api = HfApi(endpoint=url, token="x")
        api.create_repo(REPO)
        head = str(commit(api, {"a.txt": b"A"}, create_pr=True).oid)  # type: ignore[attr-defined]
    file = tmp_path / "models" / REPO / "repository.json"
    state = json.loads(file.read_text())
    comment = {"id": "1", "type": "comment", "at": state["created_at"], "by": "ash", "text": "Why?"}
    (pull,) = state["discussions"]
    talk = {**pull, "number": 2, "base": None, "head": None, "events": [comment]}
    state["discussions"] = [{**pull, "events": [comment]}, talk]
    asked = {"misty": {"id": "1", "status": "pending", "at": state["created_at"]}}
    file.write_text(json.dumps({**state, "requests": asked}))
    with running_hub(tmp_path) as url:
        api = HfApi(endpoint=url, token="x")
        assert [each.num for each in api.get_repo_discussions(REPO)] == [1]
        assert api.model_info(REPO, revision="refs/pr/1").sha == head
        api.merge_pull_request(REPO, 1)
        assert read(url, "a.txt") == b"A"
