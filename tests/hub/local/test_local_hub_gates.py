"""Gated repositories in the local Hub: everybody sees them, and who was let in reads their files."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

from toolkit.hub.local.serve import running_hub

REPO = "ash/model"
CARD = b"---\nlicense: gemma\ntags: [x]\n---\n# The card\n"
TOKENS = {"token-ash": "ash", "token-misty": "misty", "token-brock": "brock"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "hub"


@pytest.fixture
def hub(root: Path) -> Iterator[str]:
    """A Hub where ash has a gated model, whose owner decides each request."""
    with running_hub(root, tokens=TOKENS) as url:
        ash = client(url, "ash")
        ash.create_repo(REPO)
        files = {"README.md": CARD, "config.json": b"{}", "model.bin": b"\0" * 100}
        operations = [CommitOperationAdd(path, io.BytesIO(content)) for path, content in files.items()]
        ash.create_commit(REPO, operations, commit_message="all")
        ash.update_repo_settings(REPO, gated="manual")
        yield url


def client(url: str, user: str | None) -> HfApi:
    return HfApi(endpoint=url, token=f"token-{user}" if user else False)


def ask(url: str, user: str) -> int:
    headers = {"Authorization": f"Bearer token-{user}"}
    return httpx2.post(f"{url}/{REPO}/ask-access", headers=headers).status_code


def download(url: str, user: str | None, folder: Path, name: str = "config.json") -> bytes:
    token = f"token-{user}" if user else False
    return Path(hf_hub_download(REPO, name, endpoint=url, token=token, cache_dir=folder / str(user))).read_bytes()


def refused(call: object) -> HfHubHTTPError:
    with pytest.raises(HfHubHTTPError) as raised:
        call()  # type: ignore[operator]
    return raised.value


@pytest.mark.parametrize(("user", "status"), [(None, 401), ("misty", 403)])
def test_who_has_no_access_sees_a_gated_repository_and_reads_no_file(
    hub: str, tmp_path: Path, user: str | None, status: int
) -> None:
    api = client(hub, user)
    info = api.model_info(REPO)
    assert (info.gated, info.card_data and info.card_data["license"]) == ("manual", "gemma")
    assert set(api.list_repo_files(REPO)) == {".gitattributes", "README.md", "config.json", "model.bin"}
    assert [each.path for each in api.list_repo_tree(REPO)][-1] == "model.bin"
    for name in ("config.json", "model.bin", "README.md"):
        with pytest.raises(GatedRepoError) as raised:
            download(hub, user, tmp_path, name)
        assert raised.value.response.status_code == status
        assert raised.value.response.headers["X-Error-Code"] == "GatedRepo"
        assert f"{hub}/{REPO}" in str(raised.value)
    with pytest.raises(GatedRepoError):
        api.auth_check(REPO)
    with pytest.raises(GatedRepoError):
        snapshot_download(REPO, endpoint=hub, token=api.token, cache_dir=tmp_path / "snapshot")


def test_its_owner_reads_a_gated_repository(hub: str, tmp_path: Path) -> None:
    assert download(hub, "ash", tmp_path) == b"{}"
    client(hub, "ash").auth_check(REPO)


def test_an_owner_decides_requests_and_takes_access_back(hub: str, tmp_path: Path) -> None:
    ash = client(hub, "ash")
    assert (ask(hub, "misty"), ask(hub, "brock")) == (303, 303)
    with pytest.raises(GatedRepoError, match="awaiting"):
        download(hub, "misty", tmp_path)
    assert [each.username for each in ash.list_pending_access_requests(REPO)] == ["misty", "brock"]
    ash.accept_access_request(REPO, "misty")
    brock = next(iter(ash.list_pending_access_requests(REPO)))
    ash.reject_access_request(REPO, request_id=brock.request_id, rejection_reason="no")
    assert download(hub, "misty", tmp_path) == b"{}"
    assert ask(hub, "brock") == 303
    with pytest.raises(GatedRepoError, match="was rejected"):
        download(hub, "brock", tmp_path)
    assert [each.username for each in ash.list_accepted_access_requests(REPO)] == ["misty"]
    assert [each.status for each in ash.list_rejected_access_requests(REPO)] == ["rejected"]
    ash.cancel_access_request(REPO, "misty")
    assert [each.username for each in ash.list_pending_access_requests(REPO)] == ["misty"]
    with pytest.raises(GatedRepoError):
        client(hub, "misty").auth_check(REPO)


def test_access_is_granted_without_a_request_and_to_who_asks_an_automatic_gate(hub: str, tmp_path: Path) -> None:
    ash = client(hub, "ash")
    ash.grant_access(REPO, "brock")
    assert download(hub, "brock", tmp_path) == b"{}"
    assert refused(lambda: ash.grant_access(REPO, "brock")).response.status_code == 400
    ash.update_repo_settings(REPO, gated="auto")
    assert client(hub, "misty").model_info(REPO).gated == "auto"
    with pytest.raises(GatedRepoError):
        download(hub, "misty", tmp_path)
    ask(hub, "misty")
    assert download(hub, "misty", tmp_path) == b"{}"


def test_only_owners_see_and_decide_requests(hub: str) -> None:
    ask(hub, "misty")
    misty, ash = client(hub, "misty"), client(hub, "ash")
    for call in (
        lambda: list(misty.list_pending_access_requests(REPO)),
        lambda: misty.accept_access_request(REPO, "misty"),
        lambda: misty.grant_access(REPO, "misty"),
        lambda: misty.update_repo_settings(REPO, gated=False),
    ):
        assert refused(call).response.status_code == 403
    assert refused(lambda: ash.accept_access_request(REPO, "nobody")).response.status_code == 404
    assert httpx2.post(f"{hub}/{REPO}/ask-access").status_code == 401


def test_a_repository_without_a_gate_has_no_requests(hub: str, tmp_path: Path) -> None:
    ash = client(hub, "ash")
    ash.update_repo_settings(REPO, gated=False)
    assert ash.model_info(REPO).gated is False
    assert download(hub, None, tmp_path) == b"{}"
    assert ask(hub, "misty") == 400
    for call in (lambda: list(ash.list_pending_access_requests(REPO)), lambda: ash.grant_access(REPO, "misty")):
        assert refused(call).response.status_code == 400


def test_a_setting_that_is_none_is_refused(hub: str) -> None:
    headers = {"Authorization": "Bearer token-ash"}
    reply = httpx2.put(f"{hub}/api/models/{REPO}/settings", json={"gated": "often"}, headers=headers)
    assert reply.status_code == 400


def test_searches_are_narrowed_to_gated_repositories(hub: str) -> None:
    ash = client(hub, "ash")
    ash.create_repo("ash/open")
    assert [each.id for each in ash.list_models(gated=True)] == [REPO]
    assert [each.id for each in ash.list_models(gated=False)] == ["ash/open"]
    assert len(list(ash.list_models())) == 2


def test_a_proposal_does_not_lead_around_the_gate(hub: str, tmp_path: Path) -> None:
    misty, ash = client(hub, "misty"), client(hub, "ash")
    for name in ("small.json", "large.bin"):
        with pytest.raises(GatedRepoError):
            misty.upload_file(repo_id=REPO, path_in_repo=name, path_or_fileobj=b"mine", create_pr=True)
    line = {"key": "header", "value": {"summary": "around the client's questions"}}
    url, headers = f"{hub}/api/models/{REPO}/commit/main?create_pr=1", {"Authorization": "Bearer token-misty"}
    assert httpx2.post(url, json=line, headers=headers).headers["X-Error-Code"] == "GatedRepo"
    batch = {"operation": "upload", "objects": [{"oid": "0" * 64, "size": 1}]}
    reply = httpx2.post(f"{hub}/{REPO}.git/info/lfs/objects/batch", json=batch, headers=headers)
    assert reply.headers["X-Error-Code"] == "GatedRepo"
    ash.create_commit(
        REPO, [CommitOperationAdd("config.json", io.BytesIO(b"secret"))], commit_message="new", create_pr=True
    )
    assert "secret" in str(ash.get_discussion_details(REPO, 1).diff)
    assert not misty.get_discussion_details(REPO, 1).diff
    with pytest.raises(GatedRepoError):
        hf_hub_download(
            REPO, "config.json", revision="refs/pr/1", endpoint=hub, token="token-misty", cache_dir=tmp_path
        )
    page = httpx2.get(f"{hub}/{REPO}/discussions/1", headers={"Authorization": "Bearer token-misty"}).text
    assert "new" in page
    assert "secret" not in page


def test_gates_and_requests_survive_a_restart(root: Path, hub: str, tmp_path: Path) -> None:
    ask(hub, "misty")
    client(hub, "ash").grant_access(REPO, "brock")
    with running_hub(root, tokens=TOKENS) as url:
        ash = client(url, "ash")
        assert [each.username for each in ash.list_pending_access_requests(REPO)] == ["misty"]
        assert download(url, "brock", tmp_path) == b"{}"


def test_a_gated_dataset_has_its_own_page(root: Path) -> None:
    with running_hub(root, tokens=TOKENS) as url:
        ash, misty = client(url, "ash"), client(url, "misty")
        ash.create_repo("ash/names", repo_type="dataset")
        ash.update_repo_settings("ash/names", repo_type="dataset", gated="auto")
        with pytest.raises(GatedRepoError, match=f"{url}/datasets/ash/names"):
            misty.auth_check("ash/names", repo_type="dataset")
        httpx2.post(f"{url}/datasets/ash/names/ask-access", headers={"Authorization": "Bearer token-misty"})
        misty.auth_check("ash/names", repo_type="dataset")


def page(url: str, user: str | None, path: str = "") -> httpx2.Response:
    auth = ("me", f"token-{user}") if user else None
    return httpx2.get(f"{url}/{REPO}{path}", auth=auth, headers={"Accept": "text/html"})


def test_the_page_shows_the_card_and_asks_for_access_with_one_button(hub: str) -> None:
    stranger = page(hub, None).text
    assert "The card" in stranger
    assert ">gated<" in stranger
    assert "<button" not in stranger
    assert ">gated<" in httpx2.get(hub).text
    shown = page(hub, "misty")
    action = re.search(r'<form class="gate" method="post" action="([^"]+)">\n.*<button>', shown.text)
    assert action is not None
    assert "form-action 'self'" in shown.headers["Content-Security-Policy"]
    asked = httpx2.post(hub + action[1], auth=("me", "token-misty"), headers={"Origin": hub})
    assert asked.headers["Location"] == f"/{REPO}"
    assert "waiting for an answer" in page(hub, "misty").text
    client(hub, "ash").accept_access_request(REPO, "misty")
    shown = page(hub, "misty")
    assert "<form" not in shown.text
    assert "form-action 'none'" in shown.headers["Content-Security-Policy"]


def test_pages_show_nothing_of_files_to_who_has_no_access(hub: str) -> None:
    sha = client(hub, "ash").model_info(REPO).sha
    for path in ("/tree/main", "/commits/main", "/blob/main/README.md", "/discussions"):
        assert page(hub, "misty", path).status_code == 200, path
    for path in ("/blob/main/config.json", f"/commit/{sha}", "/resolve/main/config.json"):
        assert page(hub, "misty", path).status_code == 403, path
        assert f"{hub}/{REPO}" in page(hub, "misty", path).text
        assert page(hub, "ash", path).status_code == 200, path


def test_another_web_site_can_not_ask_in_a_visitors_name(hub: str) -> None:
    for origin in ("https://elsewhere.example", "null"):
        asked = httpx2.post(f"{hub}/{REPO}/ask-access", auth=("me", "token-misty"), headers={"Origin": origin})
        assert asked.status_code == 403
    assert not list(client(hub, "ash").list_pending_access_requests(REPO))
