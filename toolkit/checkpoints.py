"""Checkpoints that can be trusted: which of them are whole, and whether they belong to this run.

The Trainer writes a checkpoint one file after the other, so a killed process leaves half of one. A checkpoint counts
only once its mark is there, and the mark is written last.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from toolkit.errors import InputError
from toolkit.folder import read_json, unwritable, write_json

MARK = "complete.json"
IDENTITY = "run.json"


def prepare(folder: Path, identity: dict[str, str], *, restart: bool) -> Path | None:
    """Make the folder ready for a run, and return the newest whole checkpoint of the same run, if any.

    Args:
        folder: Where the run keeps its checkpoints.
        identity: Hashes of what decides the result, by what a person would call it.
        restart: Forget what is there.

    Raises:
        InputError: The folder holds an unfinished run of another identity, or can not be written.
    """
    file = folder / IDENTITY
    try:
        if folder.exists() and (restart or not file.is_file()):
            _remove_checkpoints(folder)
        if not file.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            write_json(file, identity)
    except OSError as error:
        raise unwritable(folder, error) from error
    before = read_json(file)
    changed = [key for key, value in identity.items() if before.get(key) != value]
    if changed:
        raise InputError(
            f"{folder} holds an unfinished run with another {' and '.join(changed)}.",
            "Continue it with what it was started with, or give --restart to begin anew.",
        )
    return _newest_whole(folder)


def _remove_checkpoints(folder: Path) -> None:
    for path in folder.glob("checkpoint-*"):
        shutil.rmtree(path)
    (folder / IDENTITY).unlink(missing_ok=True)


def _newest_whole(folder: Path) -> Path | None:
    whole = []
    for path in folder.glob("checkpoint-*"):
        if (path / MARK).is_file():
            whole.append(path)
        else:
            shutil.rmtree(path)
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def mark_whole(checkpoint: Path, seconds: float) -> None:
    """Say that a checkpoint is complete, `seconds` of training in."""
    write_json(checkpoint / MARK, {"seconds": seconds})


def seconds_so_far(checkpoint: Path | None) -> float:
    """Seconds of training before a checkpoint; 0 without one."""
    return float(read_json(checkpoint / MARK)["seconds"]) if checkpoint else 0.0


def remove(folder: Path) -> None:
    """Remove a finished run's checkpoints."""
    _remove_checkpoints(folder)
    if not any(folder.iterdir()):
        folder.rmdir()
