"""Checkpoints that can be trusted: which of them are whole, and whether they belong to this run.

The Trainer writes and removes a checkpoint one file after the other, so a killed process leaves half of one. A
checkpoint counts only with its mark, which is written last and names every file with its size.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toolkit.errors import InputError
from toolkit.folder import holds_nothing, read_json, unwritable, write_json

MARK = "complete.json"
IDENTITY = "run.json"


def prepare(folder: Path, identity: dict[str, str], *, restart: bool) -> Path | None:
    """Make the folder ready for a run, and return the newest whole checkpoint of the same run, if any.

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
            return None
        changed = [key for key, value in identity.items() if before.get(key) != value]
        if changed:
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


def _newest_whole(folder: Path) -> Path | None:
    whole = []
    for path in _checkpoints(folder):
        if _is_whole(path):
            whole.append(path)
        else:
            shutil.rmtree(path)
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _is_whole(checkpoint: Path) -> bool:
    mark = _read_or_none(checkpoint / MARK)
    files = mark.get("files") if isinstance(mark, dict) else None
    return isinstance(files, dict) and files.items() <= _sizes(checkpoint).items()


def _sizes(checkpoint: Path) -> dict[str, int]:
    """Bytes of every file of a checkpoint, its mark left out, by relative POSIX path."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path != checkpoint / MARK)
    return {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in files}


def mark_whole(checkpoint: Path, seconds: float) -> None:
    """Say that a checkpoint is complete as it is now, `seconds` of training in."""
    write_json(checkpoint / MARK, {"seconds": seconds, "files": _sizes(checkpoint)})


def seconds_so_far(checkpoint: Path | None) -> float:
    """Seconds of training before a checkpoint; 0 without one."""
    return float(read_json(checkpoint / MARK)["seconds"]) if checkpoint else 0.0


def remove(folder: Path) -> None:
    """Remove a finished run's checkpoints; what else lies there stays."""
    _remove_checkpoints(folder)
    (folder / IDENTITY).unlink(missing_ok=True)
    if holds_nothing(folder):
        shutil.rmtree(folder)
