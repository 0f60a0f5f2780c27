"""The local Hub as a process: killed, interrupted, and used by many at once."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi

from toolkit.local_hub.names import repo_id
from toolkit.local_hub.objects import AddFile
from toolkit.local_hub.serve import running_hub
from toolkit.local_hub.store import Store

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
from toolkit.local_hub.names import repo_id
from toolkit.local_hub.objects import AddFile
from toolkit.local_hub.store import Store

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


SERVED = """
import pathlib, sys
from toolkit.local_hub.serve import serve_forever
try:
    serve_forever(pathlib.Path(sys.argv[1]), "127.0.0.1", 0, lambda url: print(url, flush=True))
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
    check = "import sys, toolkit.local_hub; sys.exit('starlette' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], env=ENVIRONMENT, check=True)
