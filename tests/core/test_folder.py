"""Folders are whole or absent."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.core import folder
from toolkit.core.errors import EnvironmentLacks, InputError
from toolkit.core.layout import MANIFEST


def test_the_folder_appears_whole_at_the_end(tmp_path):
    target = tmp_path / "out"
    with folder.atomic_folder(target, "dataset") as fresh:
        (fresh / "a.txt").write_text("a")
        assert not target.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (target / "a.txt").read_text() == "a"


def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path):
    target = tmp_path / "out"
    with folder.atomic_folder(target, "dataset") as fresh:
        folder.write_manifest(fresh, "dataset", {})

    def write_half() -> None:
        with folder.atomic_folder(target, "dataset") as fresh:
            (fresh / "half").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in target.iterdir()] == [MANIFEST]


def test_a_folder_that_the_toolkit_did_not_write_is_never_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with (
        pytest.raises(InputError, match="not a dataset folder that pkt wrote"),
        folder.atomic_folder(tmp_path, "dataset"),
    ):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(("name", "known"), [("README.md", True), ("notes.txt", False), (".git/config", False)])
def test_what_somebody_changed_or_added_is_never_replaced_unless_it_was_asked_for(tmp_path, name, known):
    def make(**how):
        with folder.atomic_folder(tmp_path / "out", "dataset", **how) as fresh:
            (fresh / "README.md").write_text("ours")
            (fresh / "data.safetensors").write_text("large")
            folder.write_manifest(fresh, "dataset", {})

    make()
    # A report that may be made again, what a file browser leaves, and weights, which nobody writes by hand.
    for ours in ("validation.json", ".DS_Store", "data.safetensors"):
        (tmp_path / "out" / ours).write_text("other")
    make()
    changed = tmp_path / "out" / name
    changed.parent.mkdir(exist_ok=True)
    changed.write_text("mine")
    with pytest.raises(InputError, match=rf"cannot make again: {name}\. .* move this one away"):
        make()
    assert changed.read_text() == "mine"
    make(even_changed=True)
    assert changed.exists() is known


@pytest.mark.parametrize(
    "manifest",
    [
        '{"name": "A web app", "icons": []}',
        '{"kind": "adapter", "toolkit": "0.1.0"}',
        "no JSON",
    ],
)
def test_a_manifest_of_somebody_else_or_of_another_kind_protects_its_folder(tmp_path, manifest):
    (tmp_path / MANIFEST).write_text(manifest)
    with (
        pytest.raises(InputError, match="not a dataset folder that pkt wrote"),
        folder.atomic_folder(tmp_path, "dataset"),
    ):
        pass
    assert (tmp_path / MANIFEST).read_text() == manifest


def test_a_link_is_followed_and_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "made")
    for _ in range(2):
        with folder.atomic_folder(tmp_path / "out", "dataset") as fresh:
            folder.write_manifest(fresh, "dataset", {})
    assert (tmp_path / "out").is_symlink()
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["made"]


def test_a_mount_point_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "is_mount", lambda self: self == tmp_path)
    with pytest.raises(InputError, match=r"mount point.* Choose a folder inside it\."):
        folder.check_replaceable(tmp_path, "dataset")


def test_a_full_disk_is_a_lack_of_the_machine_and_a_read_only_one_a_wrong_path():
    full = folder.unwritable(Path("out"), OSError(errno.ENOSPC, "No space left on device"))
    assert isinstance(full, EnvironmentLacks)
    assert str(full) == "out cannot be written: No space left on device. Free some space, and run the command again."
    assert isinstance(folder.unwritable(Path("out"), OSError(errno.EROFS, "Read-only file system")), InputError)
    assert str(folder.unwritable(None, OSError(errno.EACCES, "Permission denied", "x"))).startswith("x: Permission")


KILLED_IN_THE_SWAP = """
import os, pathlib, signal, sys
from toolkit.core import folder
target = pathlib.Path(sys.argv[1])
rename = pathlib.Path.rename
def cut(self, to):
    rename(self, to)
    os.kill(os.getpid(), signal.SIGKILL)
pathlib.Path.rename = cut
with folder.atomic_folder(target, "dataset") as fresh:
    (fresh / "new").write_text("new")
"""


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path):
    target = tmp_path / "out"
    with folder.atomic_folder(target, "dataset") as fresh:
        folder.write_manifest(fresh, "dataset", {"first": True})
    killed = subprocess.run([sys.executable, "-c", KILLED_IN_THE_SWAP, str(target)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not target.exists()
    folder.recover(target)
    assert folder.read_manifest(target, "dataset")["first"] is True
    with folder.atomic_folder(target, "dataset") as fresh:
        (fresh / "b").write_text("b")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("what", ["partial", "replaced"])
def test_what_a_living_process_left_for_now_is_left_alone(tmp_path, what):
    living = tmp_path / f".out.{os.getppid()}.{what}"
    living.mkdir()
    folder.recover(tmp_path / "out")
    assert living.is_dir()
    assert not (tmp_path / "out").exists()


def test_leftovers_with_the_own_process_id_are_those_of_a_killed_one(tmp_path):
    for what in ("partial", "replaced"):
        (tmp_path / f".out.{os.getpid()}.{what}").mkdir()
    with folder.atomic_folder(tmp_path / "out", "dataset") as fresh:
        (fresh / "new").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


GONE = 2**22 + 1  # above any process id that Linux gives


def test_only_exact_leftovers_are_taken_and_names_are_no_patterns(tmp_path):
    others = [f".a.b.{GONE}.replaced", ".a.backup.partial", f".ab.{GONE}.partial", f".a.{GONE}.partial.txt"]
    for name in others:
        (tmp_path / name).mkdir()
    for target in ("a", "?", "[a]", "*"):
        folder.recover(tmp_path / target)
        assert not (tmp_path / target).exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)
    (tmp_path / f".a.{GONE}.replaced").mkdir()
    folder.recover(tmp_path / "a")
    assert (tmp_path / "a").is_dir()


def test_the_same_content_has_the_same_hash_anywhere_and_the_manifest_does_not_count(tmp_path):
    for name in ("one", "two"):
        with folder.atomic_folder(tmp_path / name, "dataset") as fresh:
            (fresh / "data").mkdir()
            (fresh / "data" / "x").write_text("x")
            folder.write_manifest(fresh, "dataset", {"name": name})
    assert folder.content_hash(tmp_path / "one") == folder.content_hash(tmp_path / "two")
    (tmp_path / "two" / "data" / "x").write_text("y")
    assert folder.content_hash(tmp_path / "one") != folder.content_hash(tmp_path / "two")


@pytest.mark.parametrize("text", ["{", "[]", '{"kind": "adapter"}'])
def test_a_folder_of_another_kind_is_refused(tmp_path, text):
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(InputError):
        folder.read_manifest(tmp_path, "dataset")


def test_nan_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.write_json(tmp_path / "x.json", {"loss": float("nan")})


def test_json_that_cannot_be_written_whole_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    file = tmp_path / "run.json"
    folder.write_json(file, {"old": True})

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        folder.write_json(file, {"new": True})
    assert json.loads(file.read_text()) == {"old": True}
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_with_nothing_but_half_a_json_file_holds_nothing(tmp_path):
    (tmp_path / ".run.json.123.tmp").write_text("{")
    assert folder.holds_nothing(tmp_path)
    (tmp_path / "x").write_text("x")
    assert not folder.holds_nothing(tmp_path)


def test_a_damaged_line_is_named_with_its_file(tmp_path):
    (tmp_path / "samples.jsonl").write_text('{"a": 1}\n{"b": ')
    with pytest.raises(InputError, match=r"samples\.jsonl is not valid JSON Lines"):
        folder.read_jsonl(tmp_path / "samples.jsonl")


def test_a_folder_is_on_the_disk_before_it_takes_its_place_and_its_name_after(tmp_path, monkeypatch):
    synced, replace = [], folder._replace
    monkeypatch.setattr(os, "fsync", lambda opened: synced.append(Path(f"/proc/self/fd/{opened}").readlink()))
    monkeypatch.setattr(folder, "_replace", lambda *paths: (synced.append("replaced"), replace(*paths)))
    with folder.atomic_folder(tmp_path / "out", "adapter") as fresh:
        (fresh / "figures").mkdir()
        (fresh / "figures" / "loss.png").write_bytes(b"x")
    before, after = synced[: synced.index("replaced")], synced[synced.index("replaced") + 1 :]
    assert {path.name for path in before} == {fresh.name, "figures", "loss.png"}
    assert after == [tmp_path]
