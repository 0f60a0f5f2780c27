"""What a client meets at a Hub with faults, which the tests of publishing rely on."""

from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi

from support.faults import faulty_hub

LARGE = bytes(range(256)) * 64


def test_only_the_requests_that_match_are_counted_and_met(tmp_path: Path) -> None:
    with faulty_hub(tmp_path, ["HEAD /a* 2-3:503", "/b 2+:418"]) as url:
        asked = [("GET", "/a"), ("HEAD", "/a"), ("HEAD", "/x"), ("HEAD", "/a"), ("HEAD", "/ab"), ("HEAD", "/a")]
        answered = [httpx2.request(method, url + path).status_code for method, path in asked]
        assert answered == [404, 404, 404, 503, 503, 404]
        assert [httpx2.get(f"{url}/b").status_code for _ in range(3)] == [404, 418, 418]


def test_a_dropped_request_is_not_done_and_a_lost_one_is(tmp_path: Path) -> None:
    with faulty_hub(tmp_path, ["POST /api/repos/create 1:drop", "POST /api/repos/create 2:lose"]) as url:
        for name, there in (("dropped", 404), ("lost", 200)):
            with pytest.raises(httpx2.TransportError):
                httpx2.post(f"{url}/api/repos/create", json={"name": name})
            assert httpx2.get(f"{url}/api/models/demo/{name}").status_code == there


def test_a_client_tries_again_and_a_truncated_answer_ends_in_the_middle(tmp_path: Path) -> None:
    with faulty_hub(tmp_path, ["PUT * 1:503", "GET /demo/a/resolve/* 1:truncate"]) as url:
        api = HfApi(endpoint=url, token="x")
        api.create_repo("demo/a")
        api.upload_file(repo_id="demo/a", path_in_repo="a.bin", path_or_fileobj=LARGE)
        with pytest.raises(httpx2.RemoteProtocolError, match="received 8192 bytes"):
            httpx2.get(f"{url}/demo/a/resolve/main/a.bin")
        assert httpx2.get(f"{url}/demo/a/resolve/main/a.bin").content == LARGE
