"""Faults on purpose, limits, and what a client meets then."""

import errno
import http.client
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from toolkit.core.errors import InputError
from toolkit.hub.local.blobs import Incoming
from toolkit.hub.local.body import Limits, parse_size
from toolkit.hub.local.faults import Fault, parse_fault
from toolkit.hub.local.serve import running_hub

LARGE = bytes(range(256)) * 64


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("3:503", Fault(3, 3, "refuse", status=503)),
        ("5:drop", Fault(5, 5, "drop")),
        ("7:truncate", Fault(7, 7, "truncate")),
        ("2:delay=1.5", Fault(2, 2, "delay", seconds=1.5)),
        ("1-4:429", Fault(1, 4, "refuse", status=429)),
        ("POST /api/*/commit/* 2+:lose", Fault(2, None, "lose", method="POST", path="/api/*/commit/*")),
        ("/x 1:drop", Fault(1, 1, "drop", path="/x")),
    ],
)
def test_a_fault_is_written_in_one_word_or_three(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault


@pytest.mark.parametrize("text", ["", "503", "0:503", "1:200", "1:explode", "1:delay", "1:delay=x", "post 1:drop"])
def test_what_is_no_fault_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match="'3:503'"):
        parse_fault(text)


def test_only_the_requests_that_match_are_counted_and_met(tmp_path: Path) -> None:
    with running_hub(tmp_path, faults=["HEAD /a* 2-3:503", Fault(1, None, "refuse", 418, path="/b")]) as url:
        asked = [("GET", "/a"), ("HEAD", "/a"), ("HEAD", "/x"), ("HEAD", "/a"), ("HEAD", "/ab"), ("HEAD", "/a")]
        assert [httpx2.request(method, url + path).status_code for method, path in asked] == [
            *(404, 404, 404, 503, 503, 404),
        ]
        assert [httpx2.get(f"{url}/b").status_code for _ in range(2)] == [418, 418]


def test_a_client_tries_again_when_it_is_refused_for_now(tmp_path: Path) -> None:
    with running_hub(tmp_path, faults=["PUT * 1:503"]) as url:
        api = HfApi(endpoint=url, token="x")
        api.create_repo("demo/a")
        api.upload_file(repo_id="demo/a", path_in_repo="a.bin", path_or_fileobj=LARGE)
        assert httpx2.get(f"{url}/demo/a/resolve/main/a.bin").content == LARGE


def test_a_dropped_request_was_not_done_and_a_lost_one_was(tmp_path: Path) -> None:
    with running_hub(tmp_path, faults=["POST /api/repos/create 1:drop", "POST /api/repos/create 2:lose"]) as url:
        for name, there in (("dropped", 404), ("lost", 200)):
            with pytest.raises(httpx2.RemoteProtocolError):
                httpx2.post(f"{url}/api/repos/create", json={"name": name})
            assert httpx2.get(f"{url}/api/models/demo/{name}").status_code == there


def test_a_truncated_answer_ends_in_the_middle(tmp_path: Path) -> None:
    with running_hub(tmp_path, faults=["GET /demo/a/resolve/* 1:truncate"]) as url:
        api = HfApi(endpoint=url, token="x")
        api.create_repo("demo/a")
        api.upload_file(repo_id="demo/a", path_in_repo="a.bin", path_or_fileobj=LARGE)
        with pytest.raises(httpx2.RemoteProtocolError, match="received 8192 bytes"):
            httpx2.get(f"{url}/demo/a/resolve/main/a.bin")
        assert httpx2.get(f"{url}/demo/a/resolve/main/a.bin").content == LARGE


def test_a_delayed_request_is_answered_all_the_same(tmp_path: Path) -> None:
    with running_hub(tmp_path, faults=["1:delay=0.01"]) as url:
        assert httpx2.get(url).status_code == 200


# Limits

SMALL = Limits(file=50_000, memory=20_000, line=2_000, patience=0.2)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[str]:
    """A Hub that takes little, with an empty repository `demo/a`."""
    with running_hub(tmp_path, limits=SMALL) as url:
        HfApi(endpoint=url, token="x").create_repo("demo/a")
        yield url


def test_a_file_that_is_too_large_is_refused_before_it_is_sent(small: str) -> None:
    with pytest.raises(HfHubHTTPError, match="takes 50,000 at most") as raised:
        HfApi(endpoint=small, token="x").upload_file(
            repo_id="demo/a", path_in_repo="a.bin", path_or_fileobj=b"\0" * 60_000
        )
    assert raised.value.response.status_code == 413


def test_a_body_that_is_too_long_is_refused_with_the_limit(small: str) -> None:
    reply = httpx2.post(f"{small}/api/validate-yaml", content=b" " * 3_000_000)
    assert (reply.status_code, reply.headers["Connection"]) == (413, "close")
    assert "takes 20,000 at most" in reply.json()["error"]


def test_a_commit_whose_line_is_too_long_is_refused(small: str) -> None:
    body = b'{"key": "header", "value": {"summary": "x"}}\n{"key": "file", "value": "' + b"a" * 3_000 + b'"}'
    reply = httpx2.post(f"{small}/api/models/demo/a/commit/main", content=body)
    assert reply.status_code == 413
    assert reply.headers["X-Error-Message"].startswith("Line 2 of the commit")


def test_a_stranger_may_send_little(tmp_path: Path) -> None:
    with running_hub(tmp_path, owner_token="hf_owner") as url:
        body = b" " * 2**21
        assert httpx2.post(f"{url}/api/validate-yaml", content=body).status_code == 413
        headers = {"Authorization": "Bearer hf_owner"}
        assert httpx2.post(f"{url}/api/validate-yaml", content=body, headers=headers).status_code == 400


@pytest.mark.parametrize("sent", [b"", b"{"])
def test_a_body_that_does_not_come_is_given_up(small: str, sent: bytes) -> None:
    connection = http.client.HTTPConnection(urlsplit(small).netloc)
    connection.putrequest("POST", "/api/repos/create")
    connection.putheader("Content-Length", "100")
    connection.endheaders(sent)
    assert connection.getresponse().status == 408
    connection.close()


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: "])
def test_headers_that_do_not_come_are_given_up(small: str, sent: bytes) -> None:
    address = urlsplit(small)
    with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
        connection.sendall(sent)
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""


def test_headers_that_are_too_long_are_refused(small: str) -> None:
    for headers, path in (({"X-Long": "a" * 40_000}, ""), ({}, "?" + "a" * 40_000)):
        assert httpx2.get(f"{small}/{path}", headers=headers).status_code == 431


def test_a_full_disk_is_told_and_nothing_is_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_hub(tmp_path) as url:
        api = HfApi(endpoint=url, token="x")
        api.create_repo("demo/a")
        before = api.model_info("demo/a").sha

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(Incoming, "write", full)
            with pytest.raises(HfHubHTTPError, match="disk of this Hub is full"):
                api.upload_file(repo_id="demo/a", path_in_repo="a.txt", path_or_fileobj=b"a")
        assert api.model_info("demo/a").sha == before


@pytest.mark.parametrize(("text", "size"), [("7", 7), ("200MB", 200_000_000), ("5 gb", 5_000_000_000), ("1KB", 1_000)])
def test_sizes_are_written_with_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "5 parsecs", "1.5GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a size"):
        parse_size(text)
