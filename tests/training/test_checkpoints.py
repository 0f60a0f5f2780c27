"""Only a complete checkpoint counts, and a folder of somebody else's checkpoints is never touched."""

import json

import pytest

from toolkit.core.errors import InputError
from toolkit.training import checkpoints
from toolkit.training.checkpoints import Spent, Start

IDENTITY = {"recipe": "a", "dataset": "b", "base": "c"}
CHANGED = IDENTITY | {"recipe": "z"}


def prepare(folder, identity=IDENTITY, *, restart=False):
    return checkpoints.prepare_checkpoints(folder, identity, restart=restart)


@pytest.fixture
def folder(tmp_path):
    """A run's folder with two checkpoints, each marked as complete."""
    made = tmp_path / "checkpoints"
    assert prepare(made) == Start()
    for step in (5, 10):
        checkpoint = made / f"checkpoint-{step}"
        (checkpoint / "state").mkdir(parents=True)
        (checkpoint / "model.safetensors").write_bytes(b"weights")
        (checkpoint / "state" / "rng.pth").write_bytes(b"random")
        checkpoints.mark_complete(checkpoint, Spent(float(step), 2.5 * step))
    return made


def test_the_newest_complete_checkpoint_is_taken_with_a_note(folder):
    start = prepare(folder)
    assert start == Start(folder / "checkpoint-10", 10, Spent(10.0, 25.0), ("Continuing from step 10.",))


def test_an_unmarked_checkpoint_does_not_count_and_is_removed(folder):
    (folder / "checkpoint-15").mkdir()
    start = prepare(folder)
    assert start.step == 10
    assert start.notes[0] == "The checkpoint of step 15 was not finished and is left out."
    assert not (folder / "checkpoint-15").exists()


def test_where_none_is_complete_training_begins_anew_with_a_note(folder):
    for step in (5, 10):
        (folder / f"checkpoint-{step}" / "model.safetensors").write_bytes(b"weighed")
    assert prepare(folder) == Start(
        notes=(
            "The checkpoint of step 10 is damaged and is left out.",
            "The checkpoint of step 5 is damaged and is left out.",
            "No checkpoint is left, so training begins anew.",
        )
    )


@pytest.mark.parametrize("name", ["model.safetensors", "state/rng.pth"])
@pytest.mark.parametrize("left", [b"Random", b"weig", None], ids=["changed", "cut short", "gone"])
def test_a_checkpoint_with_a_damaged_file_does_not_count_although_its_mark_is_there(folder, name, left):
    file = folder / "checkpoint-10" / name
    file.unlink() if left is None else file.write_bytes(left)
    assert prepare(folder).checkpoint == folder / "checkpoint-5"
    assert not (folder / "checkpoint-10").exists()


@pytest.mark.parametrize("mark", ["", '{"seconds": 1.0}'])
def test_a_mark_that_names_no_files_does_not_count(folder, mark):
    (folder / "checkpoint-10" / checkpoints.MARK).write_text(mark)
    assert prepare(folder).checkpoint == folder / "checkpoint-5"


@pytest.mark.parametrize("identity", [None, '{"dataset": {"read": "x", "written": "y"}}'])
@pytest.mark.parametrize("restart", [False, True])
def test_checkpoints_of_somebody_else_are_refused_and_kept_even_under_restart(tmp_path, identity, restart):
    (tmp_path / "checkpoint-7").mkdir()
    (tmp_path / "checkpoint-7" / "weights").write_text("weeks of work")
    if identity is not None:
        (tmp_path / checkpoints.IDENTITY).write_text(identity)
    with pytest.raises(InputError, match="holds no checkpoints of pkt"):
        prepare(tmp_path, restart=restart)
    assert (tmp_path / "checkpoint-7" / "weights").read_text() == "weeks of work"


def test_restart_discards_the_checkpoints_of_another_recipe(folder):
    with pytest.raises(InputError, match="unfinished run with another recipe"):
        prepare(folder, CHANGED)
    assert prepare(folder, CHANGED, restart=True) == Start()
    assert json.loads((folder / checkpoints.IDENTITY).read_text()) == CHANGED


def test_an_unfinished_run_of_the_first_version_asks_for_a_restart(folder):
    (folder / checkpoints.IDENTITY).rename(folder / checkpoints.OLD_IDENTITY)
    with pytest.raises(InputError, match=r"of an older version of pkt\. .* give `restart=True` to begin anew"):
        prepare(folder)
    assert prepare(folder, restart=True) == Start()
    assert [file.name for file in folder.iterdir()] == [checkpoints.IDENTITY]


def test_a_run_that_ended_before_its_first_checkpoint_does_not_block_another(tmp_path):
    prepare(tmp_path / "made")
    assert prepare(tmp_path / "made", CHANGED) == Start()
    assert json.loads((tmp_path / "made" / checkpoints.IDENTITY).read_text()) == CHANGED


def test_other_files_beside_the_checkpoints_of_a_run_stay(folder):
    (folder / "checkpoint-best").mkdir()
    (folder / "notes.txt").write_text("mine")
    assert prepare(folder).checkpoint == folder / "checkpoint-10"
    checkpoints.remove_checkpoints(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-best", "notes.txt"]


def test_a_kill_while_the_identity_was_written_does_not_stop_the_next_run(tmp_path):
    (tmp_path / f".{checkpoints.IDENTITY}.123.tmp").write_text("{")
    assert prepare(tmp_path) == Start()
    checkpoints.remove_checkpoints(tmp_path)
    assert not tmp_path.exists()
