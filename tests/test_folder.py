"""Folders are whole or absent."""

import os
import signal
import subprocess
import sys

import pytest

from toolkit import folder
from toolkit.errors import InputError


def test_the_folder_appears_whole_at_the_end(tmp_path):
    target = tmp_path / "out"
    with folder.atomic_folder(target) as fresh:
        (fresh / "a.txt").write_text("a")
        assert not target.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (target / "a.txt").read_text() == "a"


def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path):
    target = tmp_path / "out"
    with folder.atomic_folder(target) as fresh:
        folder.write_manifest(fresh, "dataset", {})

    def write_half() -> None:
        with folder.atomic_folder(target) as fresh:
            (fresh / "half").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in target.iterdir()] == [folder.MANIFEST]


def test_a_folder_that_the_toolkit_did_not_write_is_never_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not written by pkt"), folder.atomic_folder(tmp_path):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_file_is_not_a_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"), folder.atomic_folder(tmp_path / "file"):
        pass


KILLED_IN_THE_SWAP = """
import os, pathlib, signal, sys
from toolkit import folder
target = pathlib.Path(sys.argv[1])
rename = pathlib.Path.rename
def cut(self, to):
    rename(self, to)
    os.kill(os.getpid(), signal.SIGKILL)
pathlib.Path.rename = cut
with folder.atomic_folder(target) as fresh:
    (fresh / "new").write_text("new")
"""


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path):
    target = tmp_path / "out"
    with folder.atomic_folder(target) as fresh:
        folder.write_manifest(fresh, "dataset", {"first": True})
    killed = subprocess.run([sys.executable, "-c", KILLED_IN_THE_SWAP, str(target)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not target.exists()
    folder.recover(target)
    assert folder.read_manifest(target, "dataset")["first"] is True
    with folder.atomic_folder(target) as fresh:
        (fresh / "b").write_text("b")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_leftovers_of_a_living_process_are_left_alone(tmp_path):
    living = tmp_path / f".out.{os.getppid()}.partial"
    living.mkdir()
    with folder.atomic_folder(tmp_path / "out"):
        pass
    assert living.is_dir()


def test_the_same_content_has_the_same_hash_anywhere_and_the_manifest_does_not_count(tmp_path):
    for name in ("one", "two"):
        with folder.atomic_folder(tmp_path / name) as fresh:
            (fresh / "data").mkdir()
            (fresh / "data" / "x").write_text("x")
            folder.write_manifest(fresh, "dataset", {"name": name})
    assert folder.content_hash(tmp_path / "one") == folder.content_hash(tmp_path / "two")
    (tmp_path / "two" / "data" / "x").write_text("y")
    assert folder.content_hash(tmp_path / "one") != folder.content_hash(tmp_path / "two")


def test_the_manifest_names_every_file_beside_it(tmp_path):
    (tmp_path / "a").write_text("a")
    folder.write_manifest(tmp_path, "adapter", {"seed": 7})
    manifest = folder.read_manifest(tmp_path, "adapter")
    assert manifest["files"] == {"a": folder.sha256_file(tmp_path / "a")}
    assert manifest["seed"] == 7


@pytest.mark.parametrize("text", ["{", "[]", '{"kind": "adapter"}'])
def test_a_folder_of_another_kind_is_refused(tmp_path, text):
    (tmp_path / folder.MANIFEST).write_text(text)
    with pytest.raises(InputError):
        folder.read_manifest(tmp_path, "dataset")


def test_nan_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.write_json(tmp_path / "x.json", {"loss": float("nan")})
