"""The token of the local Hub: made once, kept for its owner, needed for writing, and shown where it belongs alone."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from toolkit import run
from toolkit.cli import results
from toolkit.cli.output import Output
from toolkit.core.errors import InputError
from toolkit.core.hub_client import read_token, without_secrets
from toolkit.core.recipe import load_recipe
from toolkit.hub.local.serve import kept_token, running_hub


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A Hub with a token, holding `team/public` and `team/private`; its endpoint and its token."""
    token = read_token(kept_token(tmp_path / "hub"))
    with running_hub(tmp_path / "hub", owner_token=token) as url:
        for name in ("public", "private"):
            api = HfApi(endpoint=url, token=token)
            api.create_repo(f"team/{name}", private=name == "private")
            api.upload_file(repo_id=f"team/{name}", path_in_repo="a.bin", path_or_fileobj=b"\0\1")
        yield url, token


def test_a_token_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    file = kept_token(tmp_path / "hub")
    first = file.read_text()
    file.chmod(0o644)
    assert kept_token(tmp_path / "hub").read_text() == first
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert kept_token(tmp_path / "other").read_text() != first
    assert stat.S_IMODE((tmp_path / "hub").stat().st_mode) == 0o700


def test_a_kept_token_looks_like_one_that_is_kept_out_of_logs(tmp_path: Path) -> None:
    token = read_token(kept_token(tmp_path))
    assert without_secrets(f"a log with {token} in it") == "a log with *** in it"


def test_a_token_file_without_a_token_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("two words")
    with pytest.raises(InputError, match="no single token"):
        kept_token(tmp_path)


def test_what_is_private_and_all_writing_needs_the_token(hub: tuple[str, str]) -> None:
    with pytest.raises(HfHubHTTPError, match="401"):
        HfApi(endpoint=hub[0], token=False).upload_file(
            repo_id="team/public", path_in_repo="b", path_or_fileobj=b"b", create_pr=True
        )
    batch = {"operation": "upload", "objects": [{"oid": "0" * 64, "size": 1}]}
    assert httpx2.post(f"{hub[0]}/team/public.git/info/lfs/objects/batch", json=batch).status_code == 401
    owner = HfApi(endpoint=hub[0], token=hub[1])
    assert owner.model_info("team/private").private
    assert owner.whoami()["name"] == "demo"


def test_a_browser_signs_in_with_the_token_as_its_password(hub: tuple[str, str]) -> None:
    asked = httpx2.get(f"{hub[0]}/login")
    assert (asked.status_code, asked.headers["WWW-Authenticate"][:5]) == (401, "Basic")
    assert "WWW-Authenticate" in httpx2.get(hub[0], auth=("me", "wrong")).headers
    assert "team/private" in httpx2.get(hub[0], auth=("me", hub[1])).text
    assert httpx2.get(f"{hub[0]}/login", auth=("me", hub[1])).headers["Location"] == "/"


def announced(url: str, token: str, size: int) -> str:
    """Where an object of three bytes may be put."""
    oid = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of b"abc"
    batch = {"operation": "upload", "objects": [{"oid": oid, "size": size}]}
    reply = httpx2.post(
        f"{url}/team/public.git/info/lfs/objects/batch", json=batch, headers={"Authorization": f"Bearer {token}"}
    )
    return str(reply.raise_for_status().json()["objects"][0]["actions"]["upload"]["href"])


def test_an_uploads_address_is_bound_to_the_object_the_size_and_the_time(hub: tuple[str, str]) -> None:
    href = announced(*hub, 3)
    for altered in (
        href.replace("/ba7816", "/ca7816"),
        href.replace("size=3", "size=4"),
        re.sub(r"expires=(\d)", r"expires=9\1", href),
        href.replace("team/public", "team/private"),
    ):
        assert httpx2.put(altered, content=b"abc").status_code == 403, altered
    assert httpx2.put(href.partition("?")[0], content=b"abc").status_code == 400
    assert httpx2.put(href, content=b"abd").status_code == 400
    assert httpx2.put(href, content=b"abcd").status_code == 413
    assert httpx2.put(href, content=b"ab").status_code == 400
    assert httpx2.put(href, content=b"abc").status_code == 200


def test_an_uploads_address_expires(hub: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.hub.local.files.UPLOAD_SECONDS", -1)
    assert httpx2.put(announced(*hub, 3), content=b"abc").status_code == 403


def test_a_run_gives_its_hubs_token_to_its_clients_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_ENDPOINT", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_TOKEN"):
        monkeypatch.setenv(name, os.environ.get(name, "x"))
    monkeypatch.delenv("HF_TOKEN")
    pushed: list[str] = []
    monkeypatch.setattr("toolkit.hub.base.push_tiny_base", lambda: pushed.append(os.environ["HF_TOKEN"]))
    with run.hub_of(load_recipe("demo", {}), tmp_path):
        token = read_token(tmp_path / "hub" / "token")
        assert pushed == [token]
        HfApi(endpoint=os.environ["HF_ENDPOINT"], token=os.environ["HF_TOKEN"]).create_repo("demo/by-token")
        assert httpx2.post(f"{os.environ['HF_ENDPOINT']}/api/repos/create", json={"name": "x"}).status_code == 401
    found = [path for path in tmp_path.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]
    assert found == [tmp_path / "hub" / "token"]


def test_a_log_is_told_where_the_token_is_and_not_the_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = kept_token(tmp_path)
    results.hub_is_ready(Output(), "http://127.0.0.1:1", file, "127.0.0.1")
    said = capsys.readouterr()
    assert "HF_TOKEN" in said.err
    assert read_token(file) not in said.err + said.out
    assert "Warning" not in said.err
    results.hub_is_ready(Output(), "http://127.0.0.1:1", file, "0.0.0.0")
    assert "Warning" in capsys.readouterr().err


SERVED = """
import pathlib, sys
from toolkit.hub.local.serve import serve_forever
root, file = map(pathlib.Path, sys.argv[1:])
def ready(url, token_file):
    print(url, token_file == file, flush=True)
serve_forever(root, "127.0.0.1", 0, ready, token_file=file)
"""


def test_a_token_can_come_from_a_file_and_is_then_not_kept(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hf_fromafile\n")
    command = [sys.executable, "-c", SERVED, str(tmp_path / "hub"), str(tmp_path / "secret")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as hub:
        assert hub.stdout is not None
        url, same = hub.stdout.readline().split()
        assert same == "True"
        assert HfApi(endpoint=url, token="hf_fromafile").whoami()["name"] == "demo"
        hub.terminate()
    assert not (tmp_path / "hub" / "token").exists()


def test_a_token_file_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    from toolkit import cli

    options = ["--port", "0", "--token-file", str(tmp_path / "missing")]
    result = CliRunner().invoke(cli.main, ["hub", "serve", str(tmp_path / "hub"), *options])
    assert result.exit_code == 2
    assert re.search("missing can.*be read", result.stderr)
