"""Only a whole checkpoint counts, and a folder of somebody else's checkpoints is never touched."""

import json

import pytest

from toolkit.core.errors import InputError
from toolkit.training import checkpoints

IDENTITY = {"recipe": "a", "dataset": "b", "base": "c"}


@pytest.fixture
def folder(tmp_path):
    """A run's folder with two checkpoints, each marked whole."""
    made = tmp_path / "checkpoints"
    assert checkpoints.prepare(made, IDENTITY, restart=False) == checkpoints.Start(None, 0, ())
    for step in (5, 10):
        checkpoint = made / f"checkpoint-{step}"
        (checkpoint / "state").mkdir(parents=True)
        (checkpoint / "model.safetensors").write_bytes(b"weights")
        (checkpoint / "state" / "rng.pth").write_bytes(b"random")
        checkpoints.mark_whole(checkpoint, float(step))
    return made


def newest(folder):
    return checkpoints.prepare(folder, IDENTITY, restart=False).checkpoint


def test_the_newest_whole_checkpoint_is_taken_and_said(folder):
    start = checkpoints.prepare(folder, IDENTITY, restart=False)
    assert start == checkpoints.Start(folder / "checkpoint-10", 10, ("Continuing from step 10.",))
    assert checkpoints.seconds_so_far(folder / "checkpoint-10") == 10.0


def test_an_unmarked_checkpoint_does_not_count_and_is_removed(folder):
    (folder / "checkpoint-15").mkdir()
    start = checkpoints.prepare(folder, IDENTITY, restart=False)
    assert start.step == 10
    assert start.notes[0] == "The checkpoint of step 15 was not finished and is left out."
    assert not (folder / "checkpoint-15").exists()


def test_where_none_is_whole_it_is_said_that_training_begins_anew(folder):
    for step in (5, 10):
        (folder / f"checkpoint-{step}" / "model.safetensors").write_bytes(b"weighed")
    start = checkpoints.prepare(folder, IDENTITY, restart=False)
    assert (start.checkpoint, start.step) == (None, 0)
    assert start.notes == (
        "The checkpoint of step 10 is damaged and is left out.",
        "The checkpoint of step 5 is damaged and is left out.",
        "No checkpoint is left, so the training begins anew.",
    )


def test_damage_that_keeps_the_size_is_noticed(folder):
    (folder / "checkpoint-10" / "state" / "rng.pth").write_bytes(b"Random")
    assert newest(folder) == folder / "checkpoint-5"


def test_a_mark_whose_seconds_were_changed_does_not_count(folder):
    mark = folder / "checkpoint-10" / checkpoints.MARK
    mark.write_text(mark.read_text().replace("10.0", "90.0"))
    assert newest(folder) == folder / "checkpoint-5"


@pytest.mark.parametrize("gone", ["model.safetensors", "state/rng.pth"])
def test_a_half_deleted_checkpoint_does_not_count_although_its_mark_is_there(folder, gone):
    (folder / "checkpoint-10" / gone).unlink()
    assert newest(folder) == folder / "checkpoint-5"
    assert not (folder / "checkpoint-10").exists()


def test_a_file_cut_short_makes_a_checkpoint_half(folder):
    (folder / "checkpoint-10" / "model.safetensors").write_bytes(b"weig")
    assert newest(folder) == folder / "checkpoint-5"


@pytest.mark.parametrize("mark", ["", "[]", '{"seconds": 1.0}'])
def test_a_mark_that_names_no_files_does_not_count(folder, mark):
    (folder / "checkpoint-10" / checkpoints.MARK).write_text(mark)
    assert newest(folder) == folder / "checkpoint-5"


@pytest.mark.parametrize("identity", [None, "{}", '{"dataset": {"read": "x", "written": "y"}}', "", "[]"])
@pytest.mark.parametrize("restart", [False, True])
def test_checkpoints_of_somebody_else_are_refused_and_kept_even_under_restart(tmp_path, identity, restart):
    (tmp_path / "checkpoint-7").mkdir()
    (tmp_path / "checkpoint-7" / "weights").write_text("weeks of work")
    if identity is not None:
        (tmp_path / checkpoints.IDENTITY).write_text(identity)
    with pytest.raises(InputError, match="holds no checkpoints of pkt"):
        checkpoints.prepare(tmp_path, IDENTITY, restart=restart)
    assert (tmp_path / "checkpoint-7" / "weights").read_text() == "weeks of work"


def test_restart_forgets_the_checkpoints_of_another_recipe(folder):
    changed = IDENTITY | {"recipe": "z"}
    with pytest.raises(InputError, match="unfinished run with another recipe"):
        checkpoints.prepare(folder, changed, restart=False)
    assert checkpoints.prepare(folder, changed, restart=True) == checkpoints.Start(None, 0, ())
    assert json.loads((folder / checkpoints.IDENTITY).read_text()) == changed


def test_a_run_that_ended_before_its_first_checkpoint_is_in_nobodys_way(tmp_path):
    checkpoints.prepare(tmp_path / "made", IDENTITY, restart=False)
    changed = IDENTITY | {"recipe": "z"}
    assert checkpoints.prepare(tmp_path / "made", changed, restart=False) == checkpoints.Start(None, 0, ())
    assert json.loads((tmp_path / "made" / checkpoints.IDENTITY).read_text()) == changed


def test_what_lies_beside_the_checkpoints_of_a_run_stays(folder):
    (folder / "checkpoint-best").mkdir()
    (folder / "notes.txt").write_text("mine")
    assert newest(folder) == folder / "checkpoint-10"
    checkpoints.remove(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-best", "notes.txt"]


def test_a_kill_while_the_identity_was_written_does_not_stop_the_next_run(tmp_path):
    (tmp_path / f".{checkpoints.IDENTITY}.123.tmp").write_text("{")
    assert newest(tmp_path) is None
    checkpoints.remove(tmp_path)
    assert not tmp_path.exists()
