"""The local Hub, asked by the real client in this process."""

import hashlib
import io
import itertools
import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    HfFileSystem,
    hf_hub_download,
)
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from toolkit.core.errors import InputError
from toolkit.hub.local.serve import running_hub

CARD = b"---\nlicense: mit\ntags: [names]\n---\n# A card\n"
LARGE = bytes(range(256)) * 64  # binary, so it goes through LFS
numbers = itertools.count()


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_hub(tmp_path_factory.mktemp("hub")) as url:
        yield url


@pytest.fixture
def api(endpoint: str) -> HfApi:
    return HfApi(endpoint=endpoint, token="anything")


@pytest.fixture
def repo(api: HfApi) -> str:
    """A new model repository."""
    name = f"demo/model-{next(numbers)}"
    api.create_repo(name)
    return name


def commit(api: HfApi, repo: str, files: dict[str, bytes], **options: str) -> str:
    operations = [CommitOperationAdd(path, io.BytesIO(content)) for path, content in files.items()]
    return str(api.create_commit(repo, operations, commit_message="files", **options).oid)


def post_commit(endpoint: str, repo: str, *operations: dict[str, object]) -> httpx2.Response:
    """A commit that the client would not send."""
    lines = [{"key": "header", "value": {"summary": "by hand"}}, *operations]
    return httpx2.post(f"{endpoint}/api/models/{repo}/commit/main", content="\n".join(map(json.dumps, lines)))


def read(endpoint: str, repo: str, path: str, revision: str = "main") -> bytes:
    return httpx2.get(f"{endpoint}/{repo}/resolve/{revision}/{path}").raise_for_status().content


def status(call: Callable[[], object]) -> int:
    with pytest.raises(HfHubHTTPError) as raised:
        call()
    return raised.value.response.status_code


def test_a_name_without_namespace_is_created_under_ones_own(api: HfApi) -> None:
    assert api.create_repo("just-a-name", repo_type="dataset").repo_id == "demo/just-a-name"


def test_a_new_space_has_its_card(api: HfApi, endpoint: str) -> None:
    api.create_repo("demo/1e3", repo_type="space", space_sdk="static")
    info = api.space_info("demo/1e3")
    assert (info.sdk, info.card_data and info.card_data.title) == ("static", "1e3")
    assert {each.rfilename for each in info.siblings or []} == {".gitattributes", "README.md"}


def post_create(endpoint: str, **fields: object) -> httpx2.Response:
    body = {"name": f"created-{next(numbers)}", "organization": "demo", **fields}
    return httpx2.post(f"{endpoint}/api/repos/create", json=body)


@pytest.mark.parametrize(
    ("told", "fields"),
    [
        ("The local Hub does not support 'resourceGroupId'", {"resourceGroupId": "a"}),
        ("absent for others: 'gradio'", {"sdk": "gradio"}),
        ("one of gradio, streamlit, docker, static", {"type": "space"}),
        ("'secrets', 'hardware'", {"type": "space", "sdk": "gradio", "secrets": [{"key": "a"}], "hardware": "a10g"}),
        ("Unknown visibility: 'protected'", {"visibility": "protected"}),
    ],
)
def test_what_a_new_repository_cannot_have_is_refused(endpoint: str, told: str, fields: dict[str, object]) -> None:
    reply = post_create(endpoint, **fields)
    assert (reply.status_code, told in reply.headers["X-Error-Message"]) == (400, True)
    assert post_create(endpoint, **dict.fromkeys(fields)).status_code == 200


def test_a_description_holds_what_was_asked_for_or_is_refused(api: HfApi, endpoint: str, repo: str) -> None:
    commit(api, repo, {"README.md": CARD})
    assert api.model_info(repo, expand=["sha", "cardData"]).card_data.license == "mit"
    assert set(httpx2.get(f"{endpoint}/api/models/{repo}?expand=sha&expand=tags").json()) == {"id", "sha", "tags"}
    # `upload_large_folder` of clients before 1.0 asks it.
    assert httpx2.get(f"{endpoint}/api/models/{repo}?expand=xetEnabled").json() == {"id": repo, "xetEnabled": False}
    assert [each.pipeline_tag for each in api.list_models(search=repo, expand=["pipeline_tag"])] == [None]
    for ask in (
        lambda: api.model_info(repo, expand=["downloadsAllTime"]),
        lambda: api.model_info(repo, securityStatus=1),
    ):
        assert status(ask) == 400
    assert set(httpx2.get(f"{endpoint}/api/models/{repo}/revision/HEAD?expand[]=likes").json()) == {"id", "likes"}
    branch = {"emptyBranch": True, "overwrite": False}
    reply = httpx2.post(f"{endpoint}/api/models/{repo}/branch/new", json=branch)
    assert reply.headers["X-Error-Message"] == "The local Hub does not support 'emptyBranch'"


@pytest.mark.parametrize("name", ["a--b", "a..b", "a.git", "-a", "a" * 97, "名前"])
def test_names_that_the_hub_refuses_are_refused(endpoint: str, name: str) -> None:
    reply = httpx2.post(f"{endpoint}/api/repos/create", json={"name": name, "organization": "demo"})
    assert reply.status_code == 400
    assert "Invalid name" in reply.headers["X-Error-Message"]


def test_what_was_uploaded_comes_back_the_same(api: HfApi, endpoint: str, repo: str) -> None:
    files = {"README.md": CARD, "weights/model.bin": LARGE, "empty.txt": b"", "이름 1%.txt": "피카츄".encode()}
    commit(api, repo, files)
    assert {path: read(endpoint, repo, path) for path in files} == files
    assert set(api.list_repo_files(repo)) == {".gitattributes", *files}


def test_large_and_binary_files_are_lfs_and_texts_are_not(api: HfApi, repo: str) -> None:
    commit(api, repo, {"data.npz": b"PK", "binary": LARGE, "text.json": b"{}"})
    siblings = {each.rfilename: each.lfs for each in api.model_info(repo, files_metadata=True).siblings or []}
    assert siblings["data.npz"] is not None
    assert siblings["binary"] is not None
    assert siblings["text.json"] is None


def test_an_unchanged_file_makes_no_commit(api: HfApi, repo: str) -> None:
    first = commit(api, repo, {"a.txt": b"a", "b.bin": LARGE})
    assert commit(api, repo, {"a.txt": b"a", "b.bin": LARGE}) == first


def test_a_commit_adds_copies_and_deletes_at_once(api: HfApi, endpoint: str, repo: str) -> None:
    commit(api, repo, {"a.txt": b"a", "big.bin": LARGE, "old/1.txt": b"1", "old/deep/2.txt": b"2"})
    operations = [
        CommitOperationCopy("a.txt", "copy.txt"),
        CommitOperationCopy("big.bin", "copy.bin"),
        CommitOperationDelete("a.txt"),
        CommitOperationDelete("old/deep"),
        CommitOperationDelete("old/"),
        CommitOperationAdd("new.txt", b"new"),
    ]
    api.create_commit(repo, operations, commit_message="everything")
    assert set(api.list_repo_files(repo)) == {".gitattributes", "big.bin", "copy.bin", "copy.txt", "new.txt"}
    assert read(endpoint, repo, "copy.bin") == LARGE


def test_deleting_what_is_not_there_changes_nothing(api: HfApi, repo: str) -> None:
    before = api.model_info(repo).sha
    for missing in ("nothing.txt", "nothing/"):
        operations = [CommitOperationAdd("a.txt", b"a"), CommitOperationDelete(missing)]
        with pytest.raises(EntryNotFoundError):
            api.create_commit(repo, operations, commit_message="half")
    assert api.model_info(repo).sha == before


def test_a_content_in_an_unknown_encoding_is_refused(endpoint: str, repo: str) -> None:
    value = {"path": "a", "content": "6869", "encoding": "hex"}
    assert post_commit(endpoint, repo, {"key": "file", "value": value}).status_code == 400


@pytest.mark.parametrize("digits", [5, 40])
def test_a_stale_parent_is_refused(api: HfApi, repo: str, digits: int) -> None:
    first = commit(api, repo, {"a.txt": b"1"})
    second = commit(api, repo, {"a.txt": b"2"}, parent_commit=first[:digits])
    assert status(lambda: commit(api, repo, {"a.txt": b"3"}, parent_commit=first[:digits])) == 412
    assert api.model_info(repo).sha == second


def test_an_lfs_file_must_be_in_the_same_repository_and_of_the_size_it_claims(
    api: HfApi, repo: str, endpoint: str
) -> None:
    commit(api, repo, {"secret.bin": LARGE})
    oid = next(each.lfs.sha256 for each in api.list_repo_tree(repo) if each.path == "secret.bin")
    other = api.create_repo(f"{repo}-other").repo_id
    for name, size, expected in ((other, len(LARGE), 400), (repo, 5, 400), (repo, len(LARGE), 200)):
        value = {"path": "a", "oid": oid, "size": size}
        assert post_commit(endpoint, name, {"key": "lfsFile", "value": value}).status_code == expected


def test_branches_and_tags_name_commits(api: HfApi, endpoint: str, repo: str) -> None:
    first = commit(api, repo, {"a.txt": b"1"})
    api.create_branch(repo, branch="feat/x")
    api.create_tag(repo, tag="v1")
    commit(api, repo, {"a.txt": b"2"})
    on_branch = commit(api, repo, {"a.txt": b"3"}, revision="feat/x")
    assert [read(endpoint, repo, "a.txt", each) for each in ("main", "v1", first, "feat%2Fx")] == [
        b"2",
        b"1",
        b"1",
        b"3",
    ]
    refs = api.list_repo_refs(repo)
    assert {each.name: each.target_commit for each in refs.branches}["feat/x"] == on_branch
    assert [(each.name, each.target_commit) for each in refs.tags] == [("v1", first)]
    api.delete_branch(repo, branch="feat/x")
    api.delete_tag(repo, tag="v1")
    with pytest.raises(RevisionNotFoundError):
        api.model_info(repo, revision="feat/x")
    assert status(lambda: api.delete_branch(repo, branch="main")) == 403


def test_a_reference_that_exists_is_not_moved(api: HfApi, repo: str) -> None:
    api.create_tag(repo, tag="v1")
    commit(api, repo, {"a.txt": b"1"})
    assert status(lambda: api.create_tag(repo, tag="v1")) == 409
    assert status(lambda: api.create_branch(repo, branch="main")) == 409
    api.create_tag(repo, tag="v1", exist_ok=True)


def test_a_tag_on_an_unknown_revision_is_refused_for_that(api: HfApi, repo: str) -> None:
    with pytest.raises(RevisionNotFoundError):
        api.create_tag(repo, tag="not a name", revision="missing")
    assert status(lambda: api.create_tag(repo, tag="not a name")) == 400


def test_a_squashed_branch_keeps_its_files_and_others_their_history(api: HfApi, endpoint: str, repo: str) -> None:
    commit(api, repo, {"a.txt": b"1", "big.bin": LARGE})
    second = commit(api, repo, {"a.txt": b"2"})
    api.create_branch(repo, branch="old")
    api.super_squash_history(repo, commit_message="all of it")
    assert [each.title for each in api.list_repo_commits(repo)] == ["all of it"]
    assert api.list_repo_commits(repo, revision="old")[0].commit_id == second
    assert (read(endpoint, repo, "a.txt"), read(endpoint, repo, "big.bin")) == (b"2", LARGE)
    assert {each.path: each.lfs is None for each in api.list_repo_tree(repo)} == {
        ".gitattributes": True,
        "a.txt": True,
        "big.bin": False,
    }
    commit(api, repo, {"a.txt": b"3"})
    assert len(api.list_repo_commits(repo)) == 2
    with pytest.raises(RevisionNotFoundError):
        api.super_squash_history(repo, branch="missing")


def test_history_lists_every_commit_newest_first(api: HfApi, repo: str) -> None:
    ids = [commit(api, repo, {"a.txt": b"%d" % number}) for number in range(3)]
    history = api.list_repo_commits(repo)
    assert [each.commit_id for each in history][:3] == ids[::-1]
    assert history[-1].title == "initial commit"
    assert history[0].authors == ["demo"]


def test_a_tree_lists_one_folder_or_everything(api: HfApi, repo: str) -> None:
    commit(api, repo, {"a/b/c.txt": b"c", "a/d.txt": b"d", "ab.txt": b"e"})
    assert [each.path for each in api.list_repo_tree(repo, "a")] == ["a/b", "a/d.txt"]
    everything = [each.path for each in api.list_repo_tree(repo, recursive=True)]
    assert everything == [".gitattributes", "a", "a/b", "a/b/c.txt", "a/d.txt", "ab.txt"]
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(repo, "nothing"))


def test_an_entry_tells_which_commit_last_changed_it(api: HfApi, endpoint: str, repo: str) -> None:
    first = commit(api, repo, {"a/x.txt": b"1", "b/y.txt": b"1"})
    second = commit(api, repo, {"a/x.txt": b"2"})
    post_commit(endpoint, repo, {"key": "file", "value": {"path": "b/y.txt", "content": "1"}})  # no change
    infos = api.get_paths_info(repo, ["a", "b", "b/y.txt", "missing"], expand=True)
    assert {each.path: each.last_commit.oid for each in infos} == {"a": second, "b": first, "b/y.txt": first}


def test_a_commit_id_is_never_used_twice(api: HfApi, repo: str) -> None:
    first = commit(api, repo, {"a.txt": b"a"})
    api.delete_repo(repo)
    api.create_repo(repo)
    assert commit(api, repo, {"a.txt": b"a"}) != first
    with pytest.raises(RevisionNotFoundError):
        api.model_info(repo, revision=first)


def test_what_is_missing_raises_the_clients_own_errors(api: HfApi, endpoint: str, repo: str, tmp_path: Path) -> None:
    cases = [
        (repo, "missing.txt", "main", EntryNotFoundError),
        (repo, "README.md", "missing", RevisionNotFoundError),
        ("demo/missing", "README.md", "main", RepositoryNotFoundError),
        ("without-namespace", "README.md", "main", RepositoryNotFoundError),
    ]
    for name, path, revision, error in cases:
        with pytest.raises(error):
            hf_hub_download(name, path, revision=revision, endpoint=endpoint, cache_dir=tmp_path)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("demo/missing")


def test_a_missing_file_tells_its_commit_so_that_clients_need_not_ask_again(
    api: HfApi, endpoint: str, repo: str
) -> None:
    reply = httpx2.head(f"{endpoint}/{repo}/resolve/main/missing.txt")
    assert reply.headers["X-Repo-Commit"] == api.model_info(repo).sha


def test_a_part_of_a_file_can_be_read(api: HfApi, endpoint: str, repo: str) -> None:
    commit(api, repo, {"a.bin": LARGE})
    url = f"{endpoint}/{repo}/resolve/main/a.bin"
    part = httpx2.get(url, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, LARGE[10:20])
    assert httpx2.get(url, headers={"Range": "bytes=999999-"}).status_code == 416
    head = httpx2.head(url)
    assert (head.headers["Content-Length"], head.content) == (str(len(LARGE)), b"")
    with HfFileSystem(endpoint=endpoint, token="x").open(f"{repo}/a.bin") as file:
        file.seek(300)
        assert file.read(5) == LARGE[300:305]


def test_blank_lines_before_the_metadata_hide_nothing(api: HfApi, repo: str) -> None:
    with pytest.raises(ValueError, match="Invalid metadata"):
        commit(api, repo, {"README.md": b"\n---\nmodel-index: foo\n---\n"})
    commit(api, repo, {"README.md": b"\n \n---\nlicense: mit\n---\n"})
    assert api.model_info(repo).card_data.license == "mit"


@pytest.mark.parametrize("yaml", ["a: [", "- a list", "license: 3"])
def test_a_card_with_broken_metadata_is_refused(api: HfApi, repo: str, yaml: str) -> None:
    with pytest.raises(ValueError, match="Invalid metadata"):
        commit(api, repo, {"README.md": f"---\n{yaml}\n---\n".encode()})


def test_everything_survives_a_restart(tmp_path: Path) -> None:
    with running_hub(tmp_path) as url:
        api = HfApi(endpoint=url, token="x")
        api.create_repo("demo/a", private=True)
        sha = commit(api, "demo/a", {"a.bin": LARGE})
        api.create_tag("demo/a", tag="v1")
        wanted = [{"oid": hashlib.sha256(b"later").hexdigest(), "size": 5}]
        batch = httpx2.post(f"{url}/demo/a.git/info/lfs/objects/batch", json={"operation": "upload", "objects": wanted})
    with running_hub(tmp_path) as url:
        address = batch.json()["objects"][0]["actions"]["upload"]["href"]
        assert httpx2.put(url + address[address.index("/demo/") :], content=b"later").status_code == 200
        assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
        info = HfApi(endpoint=url, token="x").model_info("demo/a", revision="v1")
        assert (info.sha, info.private) == (sha, True)
        assert read(url, "demo/a", "a.bin") == LARGE


def test_a_taken_port_and_an_unusable_root_are_told_clearly(tmp_path: Path) -> None:
    with running_hub(tmp_path) as url:
        port = int(url.rpartition(":")[2])
        with (
            pytest.raises(InputError, match=f"127.0.0.1:{port}.*listens there already"),
            running_hub(tmp_path, port=port),
        ):
            pass
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=f"{tmp_path / 'file'} can.*be written"), running_hub(tmp_path / "file"):
        pass


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda api, repo: api.get_model_tags(), "GET /api/models-tags-by-type"),
        (lambda api, repo: api.create_discussion(repo, "title"), "POST /api/models/{repo}/discussions"),
    ],
)
def test_what_the_hub_lacks_is_called_so(api: HfApi, repo: str, ask: Callable[[HfApi, str], object], told: str) -> None:
    with pytest.raises(HfHubHTTPError) as raised:
        ask(api, repo)
    assert raised.value.response.status_code == 404
    told = told.format(repo=repo)
    assert raised.value.response.headers["X-Error-Message"] == f"The local Hub does not know {told}"
    with pytest.raises(RepositoryNotFoundError):
        list(api.list_repo_likers("demo/missing"))
