"""Which Hub, whose token, and errors that a person can act on, without a secret in them."""

import json
import os

import httpx2
import pytest
from huggingface_hub import errors

from toolkit.core import hub_client
from toolkit.core.errors import EnvironmentLacks, HubError, InputError


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    for name in ("HF_ENDPOINT", "HF_TOKEN", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_HUB_DISABLE_XET"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)


def test_another_hub_gets_a_cache_of_its_own_and_no_xet(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    hub_client.use_hub("http://127.0.0.1:8765/")
    assert os.environ["HF_ENDPOINT"] == "http://127.0.0.1:8765"
    assert os.environ["HF_HUB_CACHE"] == str(tmp_path / "pkt" / "hubs" / "127.0.0.1-8765" / "hub")
    assert os.environ["HF_HUB_DISABLE_XET"] == "1"


def test_the_public_hub_keeps_the_usual_cache():
    hub_client.use_hub()
    assert os.environ["HF_ENDPOINT"] == hub_client.DEFAULT_ENDPOINT
    assert "HF_HUB_CACHE" not in os.environ
    assert "HF_HUB_DISABLE_XET" not in os.environ


@pytest.mark.parametrize(
    "url", ["localhost:1", "ftp://x", "http://", "", "http://[x", "http://h:port", "http://h?x=1", "http://a b"]
)
def test_what_is_no_url_is_refused(url):
    with pytest.raises(InputError, match="is not a URL"):
        hub_client.use_hub(url)


def test_the_token_file_is_used(tmp_path):
    (tmp_path / "token").write_text("hf_abcdefgh\n")
    hub_client.use_hub(token_file=tmp_path / "token")
    assert os.environ["HF_TOKEN"] == "hf_abcdefgh"


@pytest.mark.parametrize("content", ["", "two words", "hf_a\nhf_b"])
def test_a_token_file_without_one_token_is_refused(tmp_path, content):
    (tmp_path / "token").write_text(content)
    with pytest.raises(InputError, match="no single token"):
        hub_client.use_hub(token_file=tmp_path / "token")


@pytest.mark.parametrize(
    "text",
    ["hf_abcdefghij", "Authorization: Bearer s3cret-token", "http://user:s3cret@host/x", "my token is s3cret-from-env"],
)
def test_no_secret_survives(text, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "s3cret-from-env")
    clean = hub_client.without_secrets(text)
    assert "s3cret" not in clean
    assert "hf_abc" not in clean
    assert "***" in clean


def answer(status, **headers):
    return httpx2.Response(status, headers=headers, request=httpx2.Request("GET", "http://hub/api"))


def http_error(status):
    return errors.HfHubHTTPError("x", response=answer(status))


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("raised", "kind", "said"),
    [
        (errors.RepositoryNotFoundError("x", response=answer(404)), HubError, "does not exist"),
        (errors.RevisionNotFoundError("x", response=answer(404)), HubError, "no such revision"),
        (errors.GatedRepoError("x", response=answer(401)), EnvironmentLacks, "on .*owner/name while .*hf auth login"),
        (errors.GatedRepoError("x", response=answer(403)), EnvironmentLacks, "on .*owner/name with the account"),
        (errors.HfHubHTTPError("x", response=answer(503)), HubError, "answered 503"),
        (errors.HfHubHTTPError("x", response=answer(401)), EnvironmentLacks, "valid token"),
        (errors.HfHubHTTPError("x", response=answer(403)), HubError, "does not allow"),
        (errors.HfHubHTTPError("x", response=answer(412)), HubError, "changed by somebody else"),
        (errors.LocalEntryNotFoundError("x"), HubError, "cannot be reached"),
        (httpx2.ConnectError("x"), HubError, "cannot be reached"),
        (errors.HFValidationError("x"), InputError, "is not a Hub id"),
        (caused(errors.LocalEntryNotFoundError("x"), http_error(503)), HubError, "answered 503"),
        (caused(RuntimeError("Error while uploading"), http_error(403)), HubError, "does not allow"),
        (caused(RuntimeError("Error while uploading"), httpx2.ReadError("x")), HubError, "cannot be reached"),
        (json.JSONDecodeError("Expecting value", "<html>", 0), HubError, "not JSON"),
        (OSError("Consistency check failed: file should be of size 3"), HubError, "came incomplete"),
    ],
)
def test_what_the_clients_raise_becomes_one_clear_error(raised, kind, said):
    with pytest.raises(kind, match=said), hub_client.hub_errors("The base owner/name"):
        raise raised


def test_a_gated_dataset_is_accepted_on_the_page_of_datasets():
    with (
        pytest.raises(EnvironmentLacks, match=r"/datasets/owner/name with"),
        hub_client.hub_errors("The dataset owner/name"),
    ):
        raise errors.GatedRepoError("x", response=answer(403))


@pytest.mark.parametrize("raised", [RuntimeError("a bug"), ValueError("a bug"), FileNotFoundError("no such file")])
def test_what_has_nothing_to_do_with_the_hub_keeps_its_own_name(raised):
    with pytest.raises(type(raised)) as caught, hub_client.hub_errors("The base owner/name"):
        raise raised
    assert caught.value is raised


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("http://user:s3cretpw@host/x?token=y", "http://host/x"),
        ("https://user@host:8080/a/b#part", "https://host:8080/a/b"),
        ("https://raw.githubusercontent.com/PokeAPI/pokeapi", "https://raw.githubusercontent.com/PokeAPI/pokeapi"),
        ("/home/alice/secret-client/creatures.csv", "creatures.csv"),
        ("~/secret-client/creatures.csv", "creatures.csv"),
        ("../secret-client/creatures.csv", "creatures.csv"),
        ("file:///home/alice/secret-client/creatures.csv", "creatures.csv"),
        (r"C:\Users\alice\creatures.csv", "creatures.csv"),
        ("jugg1024/pokemon-gpt4o-captions", "jugg1024/pokemon-gpt4o-captions"),
    ],
)
def test_what_is_published_of_a_location_holds_no_secret_and_no_path(location, shown):
    assert hub_client.public_location(location) == shown
