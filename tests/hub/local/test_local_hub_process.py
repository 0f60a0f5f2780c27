"""The local Hub as a process: killed, interrupted, and used by many at once."""

import hashlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi

from toolkit.core.hub_client import read_token
from toolkit.hub.local.names import repo_id
from toolkit.hub.local.objects import AddFile
from toolkit.hub.local.serve import running_hub
from toolkit.hub.local.store import Store

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def _without_xet() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield


ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_parallel_commits_are_all_kept(tmp_path: Path) -> None:
    names = [f"{number}.txt" for number in range(24)]
    with running_hub(tmp_path) as url:
        api = HfApi(endpoint=url, token="x")
        api.create_repo("demo/busy")

        def upload(name: str) -> None:
            api.upload_file(repo_id="demo/busy", path_in_repo=name, path_or_fileobj=name.encode())

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(upload, names))
        assert set(names) < set(api.list_repo_files("demo/busy"))
        assert len(api.list_repo_commits("demo/busy")) == 25


KILLED_AT_A_RENAME = """
import os, pathlib, signal, sys
from toolkit.hub.local.names import repo_id
from toolkit.hub.local.objects import AddFile
from toolkit.hub.local.store import Store

store, left, rename = Store(pathlib.Path(sys.argv[1])), int(sys.argv[2]), pathlib.Path.replace

def replace(self, target):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)

pathlib.Path.replace = replace
files = [AddFile("a.txt", b"new a"), AddFile("b.txt", b"new b")]
store.commit(repo_id("models", "demo", "a"), "main", files, title="t", message="", author="demo", parent=None)
"""


def test_a_commit_is_whole_or_absent_wherever_the_process_is_killed(tmp_path: Path) -> None:
    repo = repo_id("models", "demo", "a")
    old, new = {"a.txt": b"old a"}, {"a.txt": b"new a", "b.txt": b"new b"}
    outcomes = []
    for renames in range(5):
        root = tmp_path / str(renames)
        Store(root).create(repo, private=False, author="demo", files=old)
        command = [sys.executable, "-c", KILLED_AT_A_RENAME, str(root), str(renames)]
        done = subprocess.run(command, env=ENVIRONMENT, check=False)
        store = Store(root)
        head = store.commit_at(store.repository(repo), "main")
        found = {path: store.blob(repo, entry.sha256).read_bytes() for path, entry in head.files.items()}
        assert found in (old, new)
        outcomes.append((done.returncode == 0, found == new))
        store.commit(repo, "main", [AddFile("c", b"c")], title="t", message="", author="demo", parent=None)
    # Two contents, the commit, the state: the commit exists once all four are renamed, and not before.
    assert outcomes == [(False, False)] * 4 + [(True, True)]


KILLED_AT_A_CALL = """
import os, pathlib, signal, sys, threading
from toolkit.hub.local.serve import serve_forever

left = int(sys.argv[2])

def count(frame, event, arg):
    global left
    if "local_hub" in frame.f_code.co_filename:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

def ready(url, token_file):
    print(url, flush=True)
    threading.setprofile(count)
    sys.setprofile(count)

serve_forever(pathlib.Path(sys.argv[1]), "127.0.0.1", 0, ready)
"""


def commit_pair(url: str, headers: dict[str, str], number: int) -> str:
    """Commit a text and a large file that hold the same number, as the client does, but without its retries."""
    large = b"%d" % number + bytes(5000)
    oid = hashlib.sha256(large).hexdigest()
    batch = {"operation": "upload", "objects": [{"oid": oid, "size": len(large)}]}
    found = httpx2.post(f"{url}/demo/a.git/info/lfs/objects/batch", json=batch, headers=headers).raise_for_status()
    for action in found.json()["objects"][0].get("actions", {}).values():
        httpx2.put(action["href"], content=large).raise_for_status()
    lines = [
        {"key": "header", "value": {"summary": str(number)}},
        {"key": "file", "value": {"path": "a.txt", "content": str(number)}},
        {"key": "lfsFile", "value": {"path": "b.bin", "oid": oid, "size": len(large)}},
    ]
    body = "\n".join(map(json.dumps, lines))
    reply = httpx2.post(f"{url}/api/models/demo/a/commit/main", content=body, headers=headers)
    return str(reply.raise_for_status().json()["commitOid"])


def check_every_commit_is_whole(root: Path) -> list[str]:
    """The ids of all visible commits, newest first, after a look at each file of each."""
    store, repo = Store(root), repo_id("models", "demo", "a")
    repository = store.repository(repo)
    for commit in store.history(repository, "main"):
        for entry in commit.files.values():
            content = store.blob(repo, entry.sha256).read_bytes()
            assert (hashlib.sha256(content).hexdigest(), len(content)) == (entry.sha256, entry.size)
        if "a.txt" in commit.files:
            text, large = (store.blob(repo, commit.files[path].sha256).read_bytes() for path in ("a.txt", "b.bin"))
            assert large.startswith(text + b"\0")
    return [commit.id for commit in store.history(repository, "main")]


@pytest.mark.parametrize("seed", range(10))
def test_wherever_the_server_is_killed_every_visible_commit_is_whole(tmp_path: Path, seed: int) -> None:
    root = tmp_path / "hub"
    Store(root).create(repo_id("models", "demo", "a"), private=False, author="demo", files={})
    calls = random.Random(seed).randrange(3_000)
    command = [sys.executable, "-c", KILLED_AT_A_CALL, str(root), str(calls)]
    acknowledged: list[str] = []
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as hub:
        assert hub.stdout is not None
        url = hub.stdout.readline().strip()
        headers = {"Authorization": f"Bearer {read_token(root / 'token')}"}
        with suppress(httpx2.HTTPError):
            for number in itertools.count():
                acknowledged.insert(0, commit_pair(url, headers, number))
        assert hub.wait() == -signal.SIGKILL
    visible = check_every_commit_is_whole(root)
    # What was answered is there; at most the one that was on its way is there too.
    assert acknowledged == visible[-len(acknowledged) - 1 : -1]
    assert len(visible) - 1 in (len(acknowledged), len(acknowledged) + 1)
    with running_hub(root, owner_token="hf_owner") as again:
        commit_pair(again, {"Authorization": "Bearer hf_owner"}, 999)


def test_of_two_commits_on_the_same_parent_exactly_one_is_made(tmp_path: Path) -> None:
    # Two servers on one folder: they do not share what a process knows.
    with running_hub(tmp_path) as one, running_hub(tmp_path) as other, ThreadPoolExecutor(2) as pool:
        HfApi(endpoint=one, token="x").create_repo("demo/a")
        for number in range(8):
            parent = HfApi(endpoint=one, token="x").model_info("demo/a").sha
            both = threading.Barrier(2)

            def commit(url: str, parent: object = parent, number: int = number, both: threading.Barrier = both) -> int:
                lines = [
                    {"key": "header", "value": {"summary": "x", "parentCommit": parent}},
                    {"key": "file", "value": {"path": f"{number}.txt", "content": url}},
                ]
                body = "\n".join(map(json.dumps, lines))
                both.wait()
                return httpx2.post(f"{url}/api/models/demo/a/commit/main", content=body).status_code

            assert sorted(pool.map(commit, (one, other))) == [200, 412]
        assert len(HfApi(endpoint=other, token="x").list_repo_commits("demo/a")) == 9


SERVED = """
import pathlib, sys
from toolkit.hub.local.serve import serve_forever
try:
    serve_forever(pathlib.Path(sys.argv[1]), "127.0.0.1", 0, lambda url, _: print(url, flush=True))
except KeyboardInterrupt:
    print("stopped")
"""


def test_a_hub_in_the_foreground_runs_until_it_is_interrupted(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SERVED, str(tmp_path)]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as hub:
        assert hub.stdout is not None
        url = hub.stdout.readline().strip()
        assert httpx2.get(url).status_code == 200
        hub.send_signal(signal.SIGINT)
        assert hub.communicate() == ("stopped\n", "")


def test_the_web_server_is_not_imported_with_the_package() -> None:
    check = "import sys, toolkit.hub.local; sys.exit('starlette' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], env=ENVIRONMENT, check=True)
