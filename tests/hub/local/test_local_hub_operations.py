"""Smaller operations of the client against the local Hub, and what it says of those that it lacks."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from toolkit.hub.local.serve import running_hub

LARGE = bytes(range(256)) * 64
REPO = "ash/model"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A Hub of ash and misty, and of demo, who may write everywhere."""
    tokens = {"token-ash": "ash", "token-misty": "misty"}
    with running_hub(tmp_path / "hub", tokens=tokens, owner_token="token-demo") as endpoint:
        client(endpoint, "ash").create_repo(REPO)
        yield endpoint


def client(url: str, user: str | None) -> HfApi:
    return HfApi(endpoint=url, token=f"token-{user}" if user else False)


def commit(api: HfApi, files: dict[str, bytes], **options: object) -> str:
    operations = [CommitOperationAdd(path, io.BytesIO(content)) for path, content in files.items()]
    return str(api.create_commit(REPO, operations, commit_message="files", **options).oid)  # type: ignore[arg-type]


def refused(ask: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(HfHubHTTPError) as raised:
        ask()
    return raised.value.response.status_code, raised.value.response.headers["X-Error-Message"]


@pytest.mark.parametrize("digits", [5, 6, 7, 40])
def test_a_parent_may_be_named_by_as_few_digits_as_the_client_allows(url: str, digits: int) -> None:
    ash = client(url, "ash")
    first = str(ash.model_info(REPO).sha)
    assert commit(ash, {"a.txt": b"1"}, parent_commit=first[:digits])
    status, _ = refused(lambda: commit(ash, {"a.txt": b"2"}, parent_commit=first[:digits]))
    assert status == 412


@pytest.mark.parametrize("private", ["no", [], 0, 1, {}, "maybe"])
def test_who_sees_a_repository_changes_by_true_and_false_alone(url: str, private: object) -> None:
    ash, headers = client(url, "ash"), {"Authorization": "Bearer token-ash"}
    ash.update_repo_settings(REPO, private=True)
    settings = f"{url}/api/models/{REPO}/settings"
    answered = httpx2.put(settings, json={"private": private}, headers=headers)
    assert (answered.status_code, "true or false" in answered.json()["error"]) == (400, True)
    assert httpx2.put(settings, json={"private": None}, headers=headers).json()["private"] is True
    assert ash.model_info(REPO).private
    made = httpx2.post(f"{url}/api/repos/create", json={"name": "new", "private": private}, headers=headers)
    assert made.status_code == 400
    assert not ash.repo_exists("ash/new")


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda api: api.get_model_tags(), "GET /api/models-tags-by-type"),
        (lambda api: list(api.list_repo_likers(REPO)), f"GET /api/models/{REPO}/likers"),
        (lambda api: list(api.list_liked_repos("ash").models), "GET /api/users/ash/likes"),
        (lambda api: api.unlike(REPO), f"DELETE /api/models/{REPO}/like"),
        (lambda api: list(api.search_spaces("names")), "GET /api/spaces/semantic-search"),
        (lambda api: api.duplicate_repo(REPO, "ash/copy"), f"POST /api/models/{REPO}/duplicate"),
    ],
)
def test_what_the_hub_lacks_is_called_so(url: str, ask: Callable[[HfApi], object], told: str) -> None:
    status, message = refused(lambda: ask(client(url, "ash")))
    assert (status, message) == (404, f"The local Hub does not know {told}")


def test_addresses_below_api_are_no_repositories(url: str) -> None:
    for path in ("/api/models-tags-by-type", "/api/collections", "/api/resolve/main/x", "/api/x/resolve/main/y"):
        answered = httpx2.get(f"{url}{path}")
        assert answered.status_code == 404
        assert answered.json()["error"] == f"The local Hub does not know GET {path}"
        assert "X-Error-Code" not in answered.headers
    with pytest.raises(RepositoryNotFoundError):
        list(client(url, "ash").list_repo_likers("ash/missing"))


def test_every_large_file_of_the_history_is_listed_once(url: str) -> None:
    ash = client(url, "ash")
    commit(ash, {"a.bin": LARGE, "small.txt": b"x"})
    commit(ash, {"copy.bin": LARGE, "a.bin": LARGE[::-1]})
    commit(ash, {"proposed.bin": LARGE + b"1"}, create_pr=True)
    found = [(each.filename, each.size, each.ref) for each in ash.list_lfs_files(REPO)]
    main = "refs/heads/main"
    assert found == [
        ("a.bin", len(LARGE), main),
        ("a.bin", len(LARGE), main),
        ("proposed.bin", len(LARGE) + 1, "refs/pr/1"),
    ]
    assert refused(lambda: list(client(url, "misty").list_lfs_files(REPO)))[0] == 403


def test_a_squashed_branch_is_one_commit_of_the_same_files(url: str) -> None:
    ash = client(url, "ash")
    secret = commit(ash, {"secret.txt": b"secret", "a.bin": LARGE})
    ash.delete_file("secret.txt", REPO)
    ash.create_tag(REPO, tag="v1")
    kept = str(commit(ash, {"b.txt": b"b"}))
    before = {each.path: each.blob_id for each in ash.list_repo_tree(REPO)}  # type: ignore[union-attr]
    ash.delete_tag(REPO, tag="v1")
    ash.create_branch(REPO, branch="other", revision=kept)
    ash.super_squash_history(REPO, commit_message="All of it")
    assert [each.title for each in ash.list_repo_commits(REPO)] == ["All of it"]
    assert {each.path: each.blob_id for each in ash.list_repo_tree(REPO)} == before  # type: ignore[union-attr]
    now = ash.model_info(REPO).sha
    assert {each.last_commit.oid for each in ash.list_repo_tree(REPO, expand=True)} == {now}
    assert len(ash.list_repo_commits(REPO, revision="other")) == 4  # another branch keeps its history
    assert ash.model_info(REPO, revision=secret).sha == secret
    ash.super_squash_history(REPO, branch="other")
    with pytest.raises(RevisionNotFoundError):
        ash.model_info(REPO, revision=secret)
    commit(ash, {"c.txt": b"c"}, parent_commit=now)
    assert len(ash.list_repo_commits(REPO)) == 2


def test_a_pull_request_outlives_the_history_that_it_began_from(url: str) -> None:
    ash = client(url, "ash")
    commit(ash, {"a.txt": b"a"})
    commit(ash, {"b.txt": b"b"}, create_pr=True)
    ash.super_squash_history(REPO)
    assert ash.get_discussion_details(REPO, 1).diff
    ash.merge_pull_request(REPO, 1)
    assert {"a.txt", "b.txt"} <= set(ash.list_repo_files(REPO))
    assert len(ash.list_repo_commits(REPO)) == 2


def test_only_an_owner_squashes_and_only_a_branch(url: str) -> None:
    ash = client(url, "ash")
    ash.create_tag(REPO, tag="v1")
    with pytest.raises(BadRequestError, match="no branch"):
        ash.super_squash_history(REPO, branch="v1")
    with pytest.raises(RevisionNotFoundError):
        ash.super_squash_history(REPO, branch="missing")
    assert refused(lambda: client(url, "misty").super_squash_history(REPO))[0] == 403
    assert len(ash.list_repo_commits(REPO)) == 1


def test_users_and_namespaces_tell_what_the_asking_one_may_see(url: str) -> None:
    ash, demo = client(url, "ash"), client(url, "demo")
    ash.create_repo("ash/hidden", private=True)
    demo.create_repo("team/names", repo_type="dataset", private=True)
    assert (ash.get_user_overview("ash").num_models, ash.get_user_overview("ash").username) == (2, "ash")
    assert client(url, None).get_user_overview("ash").num_models == 1
    assert client(url, None).get_user_overview("misty").num_models == 0
    team = demo.get_organization_overview("team")
    assert (team.name, team.num_datasets, team.num_models) == ("team", 1, 0)
    assert refused(lambda: ash.get_user_overview("nobody")) == (404, "This Hub has no user nobody")
    for name in ("team", "ash"):
        assert refused(lambda name=name: ash.get_organization_overview(name)) == (
            404,
            f"This Hub has no organization {name}",
        )


def test_ones_own_repositories_are_listed_with_what_they_take(url: str) -> None:
    ash = client(url, "ash")
    commit(ash, {"a.bin": LARGE})
    ash.create_repo("ash/names", repo_type="dataset", private=True)
    found = list(ash.list_user_repos())
    assert [(each.id, each.type, each.visibility) for each in found] == [
        (REPO, "model", "public"),
        ("ash/names", "dataset", "private"),
    ]
    assert found[0].storage - found[1].storage == len(LARGE)
    assert sum(each.storage_percent for each in found) == pytest.approx(100)
    assert [each.id for each in client(url, "demo").list_user_repos("ash")] == [REPO, "ash/names"]
    assert refused(lambda: list(client(url, "misty").list_user_repos("ash")))[0] == 403
    assert refused(lambda: list(client(url, None).list_user_repos()))[0] == 401
