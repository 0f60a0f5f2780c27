"""The unmodified `hf` command and client against the local Hub, in processes of their own, with its token."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from toolkit.core.hub_client import read_token

MEGABYTE = 2**20
SERVED = """
import pathlib, sys
from toolkit.hub.local.serve import serve_forever
serve_forever(pathlib.Path(sys.argv[1]), "127.0.0.1", 0, lambda url, _: print(url, flush=True))
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], int]]:
    """What a client's process needs to know of a Hub that runs in another one, and that one's id."""
    folder = tmp_path_factory.mktemp("hub")
    command = [sys.executable, "-c", SERVED, str(folder / "root")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=kept | paths, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        yield (
            {
                **kept,
                "HF_ENDPOINT": url,
                "HF_HOME": str(folder / "home"),
                "HF_HUB_DISABLE_XET": "1",
                "HF_TOKEN": read_token(folder / "root" / "token"),
            },
            server.pid,
        )
        server.terminate()


def hf(environment: dict[str, str], *arguments: object) -> str:
    command = [str(Path(sys.executable).with_name("hf")), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_hf_command_uploads_and_downloads_a_folder_of_a_revision(
    hub: tuple[dict[str, str], int], tmp_path: Path
) -> None:
    environment, _ = hub
    (tmp_path / "up" / "deep").mkdir(parents=True)
    (tmp_path / "up" / "deep" / "weights.bin").write_bytes(bytes(range(256)))
    (tmp_path / "up" / "README.md").write_text("---\nlicense: mit\n---\n# First\n")
    assert "demo" in hf(environment, "auth", "whoami")
    hf(environment, "upload", "team/folder", tmp_path / "up", ".", "--private")
    hf(environment, "repos", "tag", "create", "team/folder", "v1")
    (tmp_path / "up" / "README.md").write_text("---\nlicense: mit\n---\n# Second\n")
    (tmp_path / "up" / "deep" / "weights.bin").unlink()
    hf(environment, "upload", "team/folder", tmp_path / "up", ".", "--delete", "deep/*")
    hf(environment, "download", "team/folder", "--local-dir", tmp_path / "main")
    hf(environment, "download", "team/folder", "--revision", "v1", "--local-dir", tmp_path / "v1")
    assert (tmp_path / "main" / "README.md").read_text().endswith("# Second\n")
    assert (tmp_path / "v1" / "README.md").read_text().endswith("# First\n")
    assert (tmp_path / "v1" / "deep" / "weights.bin").read_bytes() == bytes(range(256))
    assert not (tmp_path / "main" / "deep").exists()


def test_who_forgets_to_disable_xet_reads_what_to_do(hub: tuple[dict[str, str], int], tmp_path: Path) -> None:
    pytest.importorskip("hf_xet")
    (tmp_path / "weights.bin").write_bytes(bytes(range(256)))
    environment = {name: value for name, value in hub[0].items() if name != "HF_HUB_DISABLE_XET"}
    command = [str(Path(sys.executable).with_name("hf")), "upload", "team/xet", str(tmp_path), "."]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "This-Hub-has-no-Xet:set-HF_HUB_DISABLE_XET=1" in done.stderr.splitlines()[-1]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/team/names", "hf download team/names --local-dir names"),
        ("/datasets/team/names.git", "hf upload --repo-type dataset team/names FOLDER"),
    ],
)
def test_git_shows_what_to_do_instead(hub: tuple[dict[str, str], int], path: str, told: str, tmp_path: Path) -> None:
    command = ["git", "clone", hub[0]["HF_ENDPOINT"] + path, str(tmp_path / "clone")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "remote: This Hub has no git" in done.stderr
    assert f"remote: {told}\n" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is read from /proc")
def test_a_large_file_goes_up_and_down_without_being_in_memory(hub: tuple[dict[str, str], int], tmp_path: Path) -> None:
    environment, server = hub
    content = os.urandom(MEGABYTE) * 96
    (tmp_path / "large.bin").write_bytes(content)
    hf(environment, "upload", "team/large", tmp_path / "large.bin", "large.bin")
    hf(environment, "download", "team/large", "large.bin", "--local-dir", tmp_path / "down")
    assert (tmp_path / "down" / "large.bin").read_bytes() == content
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{server}/status").read_text())
    assert peak is not None
    assert int(peak[1]) < 150_000  # kB: what the program itself takes
