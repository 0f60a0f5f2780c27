"""Publishing to a Hub that fails: the repository is as before or complete, and the same command finishes it."""

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import HfApi, close_session

from support.faults import faulty_hub
from support.hub import REPO, folder, remembered, send, write_version
from toolkit.core.errors import HubError, ToolkitError
from toolkit.hub import publish, remote, upload
from toolkit.hub.contents import contents
from toolkit.hub.local.serve import running_hub
from toolkit.hub.publish import PublishOptions

__all__ = ["folder", "remembered"]

ACTIONS = ("503", "500", "429", "401", "403", "404", "412", "409", "drop", "lose", "truncate")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """The client waits before it tries again; nobody has to."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)


def state(url: str) -> tuple[bool, dict[str, str]] | None:
    """Whether the repository is private, and the id of each file; None when there is none."""
    # A connection that the fault broke may still be in the client's pool, and would fail the look, not the upload.
    close_session()
    api = HfApi(endpoint=url)
    if not api.repo_exists(REPO):
        return None
    files = remote.files_at(REPO, "model", str(api.model_info(REPO).sha))
    return bool(api.model_info(REPO).private), {name: oid for name, (_, oid) in files.items()}


def requests_of(root: Path, folder: Path, monkeypatch) -> int:
    seen = []
    with faulty_hub(root, lambda request: seen.append(request.url.path)) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        send(folder)
    return len(seen)


@pytest.mark.parametrize("action", ACTIONS)
def test_whichever_request_of_a_first_publication_fails_nothing_is_half_done(tmp_path, folder, monkeypatch, action):
    count = requests_of(tmp_path / "counted", folder, monkeypatch)
    for number in range(1, count + 1):
        root = tmp_path / f"hub-{number}"
        with faulty_hub(root, [f"{number}:{action}"]) as url:
            monkeypatch.setenv("HF_ENDPOINT", url)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("PKT_CACHE", str(root / "cache"))
                outcome = attempt(folder)
                found = state(url)
                names = set(found[1]) - {".gitattributes"} if found else set()
                assert names in (set(), set(contents(folder, "base").files)), (number, action)
                if found and not names:
                    assert found[0], "what is not whole is private"
                published = send(folder)
                assert state(url)[0] is False, (number, action, outcome)
                assert [tag.name for tag in HfApi(endpoint=url).list_repo_refs(REPO).tags] == ["v1"]
                assert len(HfApi(endpoint=url).list_repo_commits(REPO)) == 2
                assert published.revision == HfApi(endpoint=url).model_info(REPO).sha


def attempt(folder: Path) -> ToolkitError | None:
    """Publish; an error that is not for a user goes on and fails the test."""
    try:
        send(folder)
    except ToolkitError as error:
        return error
    return None


@pytest.mark.parametrize("action", ["503", "412", "drop", "lose", "truncate"])
def test_whichever_request_of_an_update_fails_the_old_or_the_new_version_is_there(
    tmp_path, folder, monkeypatch, action
):
    before = tmp_path / "before"
    with running_hub(before) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        planned = upload.plan(remote.read_remote(REPO, "base"), contents(folder, "base"))
        publish.upload_and_show(planned, PublishOptions(), "first", None)
        old = state(url)
    write_version(folder, 2)
    count = requests_of(shutil.copytree(before, tmp_path / "counted"), folder, monkeypatch)
    for number in range(1, count + 1):
        root = shutil.copytree(before, tmp_path / f"hub-{number}")
        with faulty_hub(root, [f"{number}:{action}"]) as url:
            monkeypatch.setenv("HF_ENDPOINT", url)
            attempt(folder)
            found = state(url)
            send(folder)
            new = state(url)
            assert found in (old, new), (number, action)
            assert len(HfApi(endpoint=url).list_repo_commits(REPO)) == 3


def test_a_request_that_fails_once_is_tried_again_where_the_client_can(tmp_path, folder, monkeypatch):
    faults = ["POST /api/models/*/preupload/* 1-2:503", "POST *.git/info/lfs/objects/batch 1:429", "PUT *.git/* 1:drop"]
    with faulty_hub(tmp_path / "hub", faults) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        assert send(folder).changed


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("POST /api/models/*/commit/* 1:429", r"answered 429 for The model demo/namer.*Try again in a few minutes"),
        ("POST /api/models/*/commit/* 1:503", r"answered 503 for The model demo/namer"),
        ("POST /api/models/*/commit/* 1:412", r"was changed by somebody else meanwhile.*then run the command again"),
        ("POST /api/models/*/commit/* 1:403", r"does not allow this for The model demo/namer"),
        ("POST /api/models/*/commit/* 1:401", r"requires a valid token for The model demo/namer.*hf auth login"),
        ("POST /api/repos/create 1:409", r"was changed by somebody else meanwhile"),
        ("POST /api/models/*/commit/* 1:drop", r"cannot be reached"),
    ],
)
def test_each_refusal_is_one_line_with_the_way_out(tmp_path, folder, monkeypatch, fault, said):
    with faulty_hub(tmp_path / "hub", [fault]) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(ToolkitError, match=said):
            send(folder)


def test_of_two_publishers_at_once_one_is_told_and_nothing_is_lost(tmp_path, monkeypatch):
    folders = [write_version(tmp_path / f"folder-{number}", number) for number in (1, 2)]
    with running_hub(tmp_path / "hub") as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        send(write_version(tmp_path / "first", 0))
        plans = [upload.plan(remote.read_remote(REPO, "base"), contents(folder, "base")) for folder in folders]
        with ThreadPoolExecutor(2) as pool:
            done = [pool.submit(upload.upload, planned, "mine") for planned in plans]
        errors = [future.exception() for future in done]
        assert [type(error) for error in errors if error] == [HubError]
        assert "meanwhile" in str(next(error for error in errors if error))
        winner = folders[[error is None for error in errors].index(True)]
        assert upload.plan(remote.read_remote(REPO, "base"), contents(winner, "base")).of("new", "changed") == []
        assert len(HfApi(endpoint=url).list_repo_commits(REPO)) == 3


KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from support.hub import send
from toolkit.core import hub_client
hub_client.use_hub()
send(Path(sys.argv[1]))
"""


def test_a_client_killed_at_any_request_leaves_nothing_half_done(tmp_path, folder, monkeypatch):
    count = requests_of(tmp_path / "counted", folder, monkeypatch)
    for number in range(1, count + 1, 2):
        root, cache = tmp_path / f"hub-{number}", str(tmp_path / f"cache-{number}")
        child: list[subprocess.Popen[bytes]] = []
        seen: list[str] = []

        def kill(request, child=child, seen=seen, number=number):
            seen.append(request.url.path)
            if len(seen) == number and child:
                child[0].send_signal(signal.SIGKILL)

        with faulty_hub(root, kill) as url:
            monkeypatch.setenv("HF_ENDPOINT", url)
            monkeypatch.setenv("PKT_CACHE", cache)
            command = [sys.executable, "-c", KILLED, str(folder), str(Path(__file__).parents[1])]
            with subprocess.Popen(command, env={**os.environ}, stderr=subprocess.DEVNULL) as process:
                child.append(process)
                assert process.wait() == -signal.SIGKILL
            found = state(url)
            names = set(found[1]) - {".gitattributes"} if found else set()
            assert names in (set(), set(contents(folder, "base").files)), number
            send(folder)
            assert state(url)[0] is False, number
            assert len(HfApi(endpoint=url).list_repo_commits(REPO)) == 2
