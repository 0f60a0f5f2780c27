"""Checkpoints that a run can continue from: complete ones, of the same run.

The Trainer writes and removes a checkpoint file by file, so a killed process leaves half of one. A checkpoint counts
only with its mark, which is written last and holds the hash of every file.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from toolkit.core.errors import InputError
from toolkit.core.folder import holds_nothing, sha256_file, unwritable, write_json

MARK = "complete.json"
IDENTITY = "checkpoint.json"
# The identity of version 0.1.0, whose checkpoints have another mark.
OLD_IDENTITY = "run.json"


@dataclass(frozen=True, slots=True)
class Spent:
    """What training has taken so far, interrupted parts included.

    Attributes:
        seconds: Of training.
        energy_joules: Of the GPU; None where a part of the run could not be measured.
    """

    seconds: float = 0.0
    energy_joules: float | None = 0.0


@dataclass(frozen=True, slots=True)
class Start:
    """Where a run begins.

    Attributes:
        checkpoint: The checkpoint to continue from; None at the first step.
        step: Steps taken before.
        spent: Time and energy before.
        notes: Sentences for the user about the checkpoints.
        kernels: What multiplies its float32 matrices; None where that was not noted: on a GPU, and by version 0.3.
    """

    checkpoint: Path | None = None
    step: int = 0
    spent: Spent = Spent()
    notes: tuple[str, ...] = ()
    kernels: str | None = None


def prepare_checkpoints(folder: Path, identity: dict[str, str], *, restart: bool, kernels: str | None = None) -> Start:
    """Prepare a folder for a run's checkpoints, and find the newest complete one of the same run.

    Args:
        folder: Where the run keeps its checkpoints.
        identity: Hashes of everything that decides the result, by name: recipe, dataset, base.
        restart: Discard what an earlier run left there.
        kernels: What a new run multiplies float32 matrices by.

    Raises:
        InputError: The folder holds an unfinished run of another identity or other files, or cannot be written.
        EnvironmentLacks: The disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = _read_identity(folder)
        changed = [name for name, digest in identity.items() if before.get(name) != digest]
        if changed and not restart and any(_checkpoints(folder)):
            other = f"with another {' and '.join(changed)}" if before else "of an older version of pkt"
            raise InputError(
                f"{folder} holds an unfinished run {other}.",
                "Continue it with the same recipe, data and base, or give `restart=True` to begin anew.",
            )
        if changed or restart:
            _remove(folder)
            before = identity | ({"kernels": kernels} if kernels else {})
            write_json(folder / IDENTITY, before)
        return replace(_newest_complete(folder), kernels=before.get("kernels"))
    except OSError as error:
        raise unwritable(folder, error) from error


def begun(folder: Path, identity: dict[str, str], before: int | None = None) -> bool:
    """Whether a folder holds checkpoints of a run of this identity, the newest one `before` a step."""
    found, steps = _read_or_none(folder / IDENTITY), [_step_of(path) for path in _checkpoints(folder)]
    ours = isinstance(found, dict) and identity.items() <= found.items()
    return ours and bool(steps) and (before is None or max(steps) < before)


def _read_identity(folder: Path) -> dict[str, str]:
    """The identity of the run in a folder; empty for an empty folder and a run of version 0.1.0."""
    for name in (IDENTITY, OLD_IDENTITY):
        found = _read_or_none(folder / name)
        if isinstance(found, dict) and found and all(isinstance(digest, str) for digest in found.values()):
            return found if name == IDENTITY else {}
    if holds_nothing(folder):
        return {}
    raise InputError(f"{folder} is not empty and holds no checkpoints of pkt.", "Move it away, or choose another.")


def _read_or_none(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _checkpoints(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name))


def _remove(folder: Path) -> None:
    for path in _checkpoints(folder):
        shutil.rmtree(path)
    for name in (IDENTITY, OLD_IDENTITY):
        (folder / name).unlink(missing_ok=True)


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _newest_complete(folder: Path) -> Start:
    """The newest complete checkpoint; incomplete ones after it are removed, each with a note."""
    notes: list[str] = []
    for path in sorted(_checkpoints(folder), key=_step_of, reverse=True):
        step, mark = _step_of(path), _read_or_none(path / MARK)
        if isinstance(mark, dict) and (files := mark.get("files")) and files.items() <= _hashes(path).items():
            spent = Spent(mark["seconds"], mark["energy_joules"])
            return Start(path, step, spent, (*notes, f"Continuing from step {step:,}."))
        wrong = "is damaged" if (path / MARK).exists() else "was not finished"
        notes.append(f"The checkpoint of step {step:,} {wrong} and is left out.")
        shutil.rmtree(path)
    return Start(notes=(*notes, "No checkpoint is left, so training begins anew.") if notes else ())


def _hashes(checkpoint: Path) -> dict[str, str]:
    """SHA-256 of every file of a checkpoint but its mark, by relative POSIX path."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path != checkpoint / MARK)
    return {path.relative_to(checkpoint).as_posix(): sha256_file(path) for path in files}


def mark_complete(checkpoint: Path, spent: Spent) -> None:
    """Mark a checkpoint as complete in its present state, with the time and energy spent so far."""
    write_json(checkpoint / MARK, {**asdict(spent), "files": _hashes(checkpoint)})


def remove_checkpoints(folder: Path) -> None:
    """Remove a finished run's checkpoints; other files in the folder stay."""
    _remove(folder)
    if holds_nothing(folder) and not folder.is_symlink():
        shutil.rmtree(folder)
