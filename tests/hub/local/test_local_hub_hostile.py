"""That nothing a client or a card contains breaks the local Hub, or leads out of it."""

import errno
import http.client
import json
import sqlite3
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from toolkit.hub.local import files, serve, store
from toolkit.hub.local.serve import running_hub


@pytest.fixture(scope="module")
def open_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_hub(tmp_path_factory.mktemp("hub")) as url:
        HfApi(endpoint=url, token="x").create_repo("demo/a")
        yield url


def ask(url: str, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None) -> int:
    """The status of a request whose path goes out as it is written, unlike any library's."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    try:
        connection.putrequest(method, target, skip_host=headers is not None and "Host" in headers)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(
    "path",
    [
        *("../../secret", "..%2f..%2fsecret", "%2e%2e/%2e%2e/secret", "..%5c..%5csecret", "/etc/passwd"),
        *("%2Fetc%2Fpasswd", "a%00b", "%ff", "a//b", ".", ""),
    ],
)
def test_no_path_leads_out_of_a_repository(open_hub: str, path: str) -> None:
    for target in (
        f"/demo/a/resolve/main/{path}",
        f"/demo/a/resolve/{path}/config.json",
        f"/datasets/demo/{path}/resolve/main/x",
        f"/{path}/a/resolve/main/x",
        f"/api/models/demo/a/tree/main/{path}",
        f"/api/models/demo/{path}",
        f"/api/models/{path}/a/refs",
        f"/demo/{path}",
    ):
        assert ask(open_hub, "GET", target) in (400, 404) or target == "/api/models/demo/a/tree/main/", target


@pytest.mark.parametrize("path", ["../x", "/x", "a/../b", "a\0b", "a//b", ".git/config", "a\\..\\b", "", "a/"])
def test_a_file_with_an_unsafe_path_is_refused(open_hub: str, path: str) -> None:
    lines = [
        {"key": "header", "value": {"summary": "x"}},
        {"key": "file", "value": {"path": path, "content": "", "encoding": "base64"}},
    ]
    body = "\n".join(map(json.dumps, lines)).encode()
    assert ask(open_hub, "POST", "/api/models/demo/a/commit/main", body) == 400
    body = json.dumps({"files": [{"path": path, "size": 1, "sample": ""}]}).encode()
    assert ask(open_hub, "POST", "/api/models/demo/a/preupload/main", body) == 400


@pytest.mark.parametrize("body", [b"{", b"[]"])
def test_a_malformed_body_is_answered_with_400_and_a_reason(open_hub: str, body: bytes) -> None:
    reply = httpx2.post(f"{open_hub}/api/repos/create", content=body)
    assert reply.status_code == 400
    assert "JSON" in reply.headers["X-Error-Message"]


def test_a_body_that_is_too_long_is_refused_with_the_limit(open_hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "MAX_BODY", 20_000)
    reply = httpx2.post(f"{open_hub}/api/validate-yaml", content=b" " * 3_000_000)
    assert reply.status_code == 413
    assert "takes 20,000 at most" in reply.json()["error"]


def test_a_commit_may_be_longer_than_a_body_but_not_a_line_of_it(
    open_hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    HfApi(endpoint=open_hub, token="x").create_repo("demo/long")
    for module in (serve, files):
        monkeypatch.setattr(module, "MAX_BODY", 20_000)
    lines = [{"key": "header", "value": {"summary": "x"}}]
    lines += [{"key": "file", "value": {"path": f"{each}.txt", "content": "x" * 15_000}} for each in range(200)]
    assert ask(open_hub, "POST", "/api/models/demo/long/commit/main", "\n".join(map(json.dumps, lines)).encode()) == 200
    lines[1]["value"]["content"] = "x" * 25_000
    reply = httpx2.post(f"{open_hub}/api/models/demo/long/commit/main", content="\n".join(map(json.dumps, lines)))
    assert reply.status_code == 413
    assert "as a large file (LFS)" in reply.json()["error"]


def test_paths_and_texts_that_cannot_be_kept_are_left_out_or_refused(open_hub: str) -> None:
    HfApi(endpoint=open_hub, token="x").create_repo("demo/odd")
    paths = ["", "\ud800", "a\0", ".gitattributes/", "..", ".gitattributes"]
    reply = httpx2.post(f"{open_hub}/api/models/demo/odd/paths-info/main", content=json.dumps({"paths": paths}))
    assert [each["path"] for each in reply.raise_for_status().json()] == [".gitattributes"]
    lines = [
        {"key": "header", "value": {"summary": "\ud800"}},
        {"key": "file", "value": {"path": "a", "content": "\ud800"}},
    ]
    body = "\n".join(map(json.dumps, lines)).encode()
    assert ask(open_hub, "POST", "/api/models/demo/odd/commit/main", body) == 400


def test_a_full_disk_is_said_and_nothing_is_half_done(open_hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    api = HfApi(endpoint=open_hub, token="x")
    api.create_repo("demo/full")
    before = api.model_info("demo/full").sha

    connect = sqlite3.connect

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def full_database(*args: Any, **options: Any) -> sqlite3.Connection:
        opened = connect(*args, **options)
        opened.execute("PRAGMA max_page_count = 1")  # of those that it has
        return opened

    with monkeypatch.context() as patch:
        patch.setattr("sqlite3.connect", full_database)
        lines = [{"key": "header", "value": {"summary": "x"}}]
        lines += [{"key": "file", "value": {"path": f"{each}.txt", "content": ""}} for each in range(200)]
        body = "\n".join(map(json.dumps, lines)).encode()
        assert ask(open_hub, "POST", "/api/models/demo/full/commit/main", body) == 507
    with monkeypatch.context() as patch:
        patch.setattr(store, "write_bytes", full)
        with pytest.raises(HfHubHTTPError, match="disk of this Hub is full"):
            api.upload_file(repo_id="demo/full", path_in_repo="a.txt", path_or_fileobj=b"a")
    assert api.model_info("demo/full").sha == before


def test_a_page_of_another_site_cannot_write(open_hub: str) -> None:
    body = json.dumps({"name": "planted"})
    reply = httpx2.post(f"{open_hub}/api/repos/create", content=body, headers={"Origin": "https://elsewhere.example"})
    assert reply.status_code == 403


def test_a_broken_card_still_has_a_page(open_hub: str) -> None:
    api = HfApi(endpoint=open_hub, token="x")
    api.create_repo("demo/broken")
    for content in (
        b"---\na: [\n---\n# Kept",
        b'---\na: "\\ud800"\n---\n# Kept',
        b"\xff# Kept",
        b"---\n- 1\n---\n# Kept",
    ):
        value = {"path": "README.md", "content": content.decode("latin-1")}
        lines = [{"key": "header", "value": {"summary": "x"}}, {"key": "file", "value": value}]
        body = "\n".join(map(json.dumps, lines))
        httpx2.post(f"{open_hub}/api/models/demo/broken/commit/main", content=body).raise_for_status()
        assert "Kept" in httpx2.get(f"{open_hub}/demo/broken").raise_for_status().text
        assert api.model_info("demo/broken").id == "demo/broken"


def test_a_pushed_web_page_cannot_run_in_the_hubs_name(open_hub: str) -> None:
    api = HfApi(endpoint=open_hub, token="x")
    api.create_repo("demo/pages")
    for name in ("a.html", "a.svg"):
        api.upload_file(repo_id="demo/pages", path_in_repo=name, path_or_fileobj=b"<script>alert(1)</script>")
        headers = httpx2.get(f"{open_hub}/demo/pages/resolve/main/{name}").headers
        assert "html" not in headers["Content-Type"]
        assert headers["Content-Security-Policy"].startswith("sandbox;")
