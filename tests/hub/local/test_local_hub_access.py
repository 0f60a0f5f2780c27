"""Who may do what in the local Hub."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from toolkit.hub.local.serve import running_hub


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A hub of two users, where ash has a public and a private model."""
    with running_hub(tmp_path_factory.mktemp("hub"), tokens={"token-ash": "ash", "token-misty": "misty"}) as url:
        ash = HfApi(endpoint=url, token="token-ash")
        for name, private in (("ash/public", False), ("ash/private", True)):
            ash.create_repo(name, private=private)
            ash.upload_file(repo_id=name, path_in_repo="a.bin", path_or_fileobj=b"\0\1\2")
        yield url


def headers(token: bool | str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def test_a_bad_token_is_not_mistaken_for_a_missing_repository(shared: str) -> None:
    api = HfApi(endpoint=shared, token="wrong")
    for call in (api.whoami, lambda: api.model_info("ash/public"), lambda: api.create_repo("ash/new")):
        with pytest.raises(HfHubHTTPError) as raised:
            call()
        assert raised.value.response.status_code == 401
        assert raised.value.response.headers["X-Error-Message"] == "Invalid credentials in Authorization header"
        assert not isinstance(raised.value, RepositoryNotFoundError)


@pytest.mark.parametrize("token", [False, "token-misty"])
def test_a_private_repository_does_not_exist_for_others(shared: str, token: bool | str) -> None:
    api = HfApi(endpoint=shared, token=token)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("ash/private")
    listed = {each.id for each in api.list_models()}
    assert "ash/public" in listed
    assert "ash/private" not in listed
    head = httpx2.head(f"{shared}/ash/private/resolve/main/a.bin", headers=headers(token))
    missing = httpx2.head(f"{shared}/ash/missing/resolve/main/a.bin", headers=headers(token))
    known = [dict(each.headers) | {"date": "", "x-request-id": ""} for each in (head, missing)]
    assert (head.status_code, known[0]) == (missing.status_code, known[1])
    assert head.status_code == (404 if token else 401)  # to a stranger: a token might help
    assert "ash/private" not in httpx2.get(shared).text


def test_its_owner_sees_a_private_repository_and_can_publish_it(shared: str) -> None:
    api = HfApi(endpoint=shared, token="token-ash")
    api.create_repo("ash/draft", private=True)
    assert api.model_info("ash/draft").private
    api.update_repo_settings("ash/draft", visibility="public")
    assert HfApi(endpoint=shared, token=False).model_info("ash/draft").private is False
    api.delete_repo("ash/draft")


@pytest.mark.parametrize(("token", "status"), [(False, 401), ("token-misty", 403)])
def test_only_the_owner_of_a_namespace_writes_there(shared: str, token: bool | str, status: int) -> None:
    api = HfApi(endpoint=shared, token=token)
    writes = [
        lambda: api.create_repo("ash/new"),
        lambda: api.delete_repo("ash/public"),
        lambda: api.create_tag("ash/public", tag="v1"),
        lambda: api.upload_file(repo_id="ash/public", path_in_repo="b.txt", path_or_fileobj=b"b"),
        lambda: api.update_repo_settings("ash/public", private=True),
        lambda: api.move_repo("ash/public", "misty/public"),
    ]
    for write in writes:
        with pytest.raises(HfHubHTTPError) as raised:
            write()
        assert raised.value.response.status_code == status


@pytest.mark.parametrize(("token", "status"), [(False, 401), ("token-misty", 403)])
def test_everybody_sees_a_gated_repository_and_its_owner_alone_reads_its_files(
    shared: str, tmp_path: Path, token: bool | str, status: int
) -> None:
    ash = HfApi(endpoint=shared, token="token-ash")
    ash.create_repo("ash/gated", exist_ok=True)
    ash.update_repo_settings("ash/gated", gated="manual")
    api = HfApi(endpoint=shared, token=token)
    assert (api.model_info("ash/gated").gated, api.list_repo_files("ash/gated")) == ("manual", [".gitattributes"])
    asks = [
        lambda: hf_hub_download("ash/gated", ".gitattributes", endpoint=shared, token=token, cache_dir=tmp_path),
        lambda: api.auth_check("ash/gated"),
        lambda: api.upload_file(repo_id="ash/gated", path_in_repo="b", path_or_fileobj=b"b", create_pr=True),
    ]
    for ask in asks:
        with pytest.raises(GatedRepoError) as raised:
            ask()
        assert raised.value.response.status_code == status
        assert "only those who may write to it may read its files" in str(raised.value)
    page = httpx2.get(f"{shared}/ash/gated/blob/main/.gitattributes", headers=headers(token))
    assert page.status_code == status
    assert ">gated<" in httpx2.get(f"{shared}/ash/gated", headers=headers(token)).text
    assert hf_hub_download("ash/gated", ".gitattributes", endpoint=shared, token="token-ash", cache_dir=tmp_path)
