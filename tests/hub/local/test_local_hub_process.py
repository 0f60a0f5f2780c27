"""The local Hub as a process: killed, interrupted, and used by many at once."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi

from toolkit.hub.local.objects import Change, repo_id
from toolkit.hub.local.serve import running_hub
from toolkit.hub.local.store import Store, receive

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


KILLED_AT_A_STEP = """
import os, pathlib, signal, sqlite3, sys
from toolkit.hub.local.objects import Change, repo_id
from toolkit.hub.local.store import Store, receive

store, left, rename, connect = Store(pathlib.Path(sys.argv[1])), int(sys.argv[2]), pathlib.Path.replace, sqlite3.connect

def step(*_):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)

def replace(self, target):
    step()
    return rename(self, target)

def traced(*args, **options):
    db = connect(*args, **options)
    db.set_trace_callback(step)
    return db

pathlib.Path.replace, sqlite3.connect = replace, traced
with store.receiving() as folder:
    files = tuple(receive(folder, name, b"new " + name[:1].encode()) for name in ("a.txt", "b.txt"))
    store.commit(repo_id("models", "demo", "a"), "main", Change(files, "t", "", "demo", contents=folder))
"""


def test_a_commit_is_whole_or_absent_wherever_the_process_is_killed(tmp_path: Path) -> None:
    repo = repo_id("models", "demo", "a")
    old, new = {"a.txt": b"old a"}, {"a.txt": b"new a", "b.txt": b"new b"}
    outcomes = []
    for steps in itertools.count():
        root = tmp_path / str(steps)
        Store(root).create(repo, private=False, author="demo", files=old)
        command = [sys.executable, "-c", KILLED_AT_A_STEP, str(root), str(steps)]
        done = subprocess.run(command, env=ENVIRONMENT, check=False)
        store = Store(root)
        head = store.commit_at(store.repository(repo), "main")
        found = {path: store.blob(repo, entry.sha256).read_bytes() for path, entry in head.files.below().items()}
        assert found in (old, new)
        assert list(store.incoming.iterdir()) == []
        outcomes.append((done.returncode == 0, found == new))
        with store.receiving() as folder:
            store.commit(repo, "main", Change((receive(folder, "c", b"c"),), "t", "", "demo", contents=folder))
        if done.returncode == 0:
            break
    # The commit exists after the last step, which renames the state, and not before.
    assert outcomes == [(False, False)] * (len(outcomes) - 1) + [(True, True)]


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
