"""Checkpoints that can be trusted: which of them are whole, and whether they belong to this run.

The Trainer writes and removes a checkpoint one file after the other, so a killed process leaves half of one. A
checkpoint counts only with its mark, which is written last and names every file with its hash.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.core.errors import InputError
from toolkit.core.folder import holds_nothing, json_hash, read_json, sha256_file, unwritable, write_json

MARK = "complete.json"
IDENTITY = "run.json"


@dataclass(frozen=True, slots=True)
class Start:
    """Where a run begins.

    Attributes:
        checkpoint: The one that it continues from; None: at the first step.
        step: Steps that were taken before.
        notes: What is to be said about it, if anything.
    """

    checkpoint: Path | None
    step: int
    notes: tuple[str, ...]


def prepare(folder: Path, identity: dict[str, str], *, restart: bool) -> Start:
    """Make the folder ready for a run, and find the newest whole checkpoint of the same run, if any.

    Args:
        folder: Where the run keeps its checkpoints.
        identity: Hashes of what decides the result, by what a person would call it.
        restart: Forget what an earlier run left there.

    Raises:
        InputError: The folder holds an unfinished run of another identity, or is somebody else's, or can not be
            written.
        EnvironmentLacks: The disk is full.
    """
    try:
        if not folder.exists() or (folder.is_dir() and holds_nothing(folder)):
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / IDENTITY, identity)
        before = _read_or_none(folder / IDENTITY)
        if not _is_identity(before):
            raise InputError(
                f"{folder} is not empty and holds no checkpoints of pkt.", "Move it away, or choose another output."
            )
        if restart:
            _remove_checkpoints(folder)
            write_json(folder / IDENTITY, identity)
            return Start(None, 0, ())
        changed = [key for key, value in identity.items() if before.get(key) != value]
        if changed and not any(_checkpoints(folder)):
            # It ended before there was anything to continue.
            write_json(folder / IDENTITY, identity)
        elif changed:
            raise InputError(
                f"{folder} holds an unfinished run with another {' and '.join(changed)}.",
                "Continue it with what it was started with, or give --restart to begin anew.",
            )
        return _newest_whole(folder)
    except OSError as error:
        raise unwritable(folder, error) from error


def _is_identity(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(part, str) for part in value.values())


def _read_or_none(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _checkpoints(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name))


def _remove_checkpoints(folder: Path) -> None:
    for path in _checkpoints(folder):
        shutil.rmtree(path)


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _newest_whole(folder: Path) -> Start:
    """The newest checkpoint that is whole; those after it are removed, and it is said why."""
    notes: list[str] = []
    for path in sorted(_checkpoints(folder), key=_step_of, reverse=True):
        wrong = _what_is_wrong(path)
        if wrong is None:
            step = _step_of(path)
            return Start(path, step, (*notes, f"Continuing from step {step:,}."))
        notes.append(f"The checkpoint of step {_step_of(path):,} {wrong}.")
        shutil.rmtree(path)
    return Start(None, 0, (*notes, "No checkpoint is left, so the training begins anew.") if notes else ())


def _what_is_wrong(checkpoint: Path) -> str | None:
    """Why a checkpoint does not count; None when it is whole."""
    if not (checkpoint / MARK).exists():
        return "was not finished and is left out"
    mark = _read_or_none(checkpoint / MARK)
    whole = isinstance(mark, dict) and mark == _mark(mark.get("seconds"), mark.get("files"))
    if not whole or not isinstance(mark["files"], dict) or not mark["files"].items() <= _hashes(checkpoint).items():
        return "is damaged and is left out"
    return None


def _hashes(checkpoint: Path) -> dict[str, str]:
    """SHA-256 of every file of a checkpoint, its mark left out, by relative POSIX path."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path != checkpoint / MARK)
    return {path.relative_to(checkpoint).as_posix(): sha256_file(path) for path in files}


def _mark(seconds: Any, files: Any) -> dict[str, Any]:
    return {"seconds": seconds, "files": files, "hash": json_hash([seconds, files])}


def mark_whole(checkpoint: Path, seconds: float) -> None:
    """Say that a checkpoint is complete as it is now, `seconds` of training in."""
    write_json(checkpoint / MARK, _mark(seconds, _hashes(checkpoint)))


def seconds_so_far(checkpoint: Path | None) -> float:
    """Seconds of training before a checkpoint; 0 without one."""
    return float(read_json(checkpoint / MARK)["seconds"]) if checkpoint else 0.0


def remove(folder: Path) -> None:
    """Remove a finished run's checkpoints; what else lies there stays."""
    _remove_checkpoints(folder)
    (folder / IDENTITY).unlink(missing_ok=True)
    if holds_nothing(folder) and not folder.is_symlink():
        shutil.rmtree(folder)
