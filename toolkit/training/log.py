"""What a training's history tells: the lines of its log, its best step, and whether it is over.

The Trainer's own history has every step, and lies in every checkpoint: a run that was interrupted knows the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

History = Sequence[dict[str, Any]]


def best_step(history: History) -> int | None:
    """The step of the lowest validation loss, the first of equals; None before any."""
    measured = _validations(history)
    return min(measured, key=lambda entry: float(entry["validation_loss"]))["step"] if measured else None


def stops_early(history: History, patience: int | None) -> bool:
    """Whether the last `patience` validation losses brought no lower one."""
    steps = [entry["step"] for entry in _validations(history)]
    return patience is not None and bool(steps) and len(steps) - 1 - steps.index(best_step(history)) >= patience


def skipped_in_a_row(history: History) -> int:
    """Steps up to the last one whose gradients overflowed, which the gradient scaler of fp16 skips."""
    count = 0
    for entry in reversed([entry for entry in history if "loss" in entry]):
        if math.isfinite(entry.get("grad_norm", 0.0)):
            break
        count += 1
    return count


def last_losses(history: History) -> tuple[float | None, float | None]:
    """The last training loss and the last validation loss."""
    losses = [entry["loss"] for entry in history if "loss" in entry]
    measured = _validations(history)
    return losses[-1] if losses else None, measured[-1]["validation_loss"] if measured else None


def loss_at(history: History, step: int) -> float | None:
    """The validation loss at a step, if there was one."""
    return next((entry["validation_loss"] for entry in _validations(history) if entry["step"] == step), None)


def log_lines(history: History, log_every: int, kept: int | None = None) -> list[dict[str, Any]]:
    """The lines of training_log.jsonl: means over `log_every` steps, and each validation loss.

    A run interrupted between two lines writes the same bytes.

    Args:
        history: Of the Trainer, an entry for each step.
        log_every: Steps that a line averages.
        kept: The step whose adapter was written, where it was chosen by its validation loss; its line says so.
    """
    lines: list[dict[str, Any]] = []
    window: list[dict[str, Any]] = []
    steps = [entry for entry in history if "loss" in entry]
    for entry in steps:
        window.append(entry)
        if entry["step"] % log_every == 0 or entry is steps[-1]:
            lines.append(_mean_line(window))
            window = []
        if "validation_loss" in entry:
            line = {key: entry[key] for key in ("step", "epoch", "validation_loss")}
            lines.append(line | ({"kept": True} if entry["step"] == kept else {}))
    return lines


def _validations(history: History) -> list[dict[str, Any]]:
    return [entry for entry in history if "validation_loss" in entry]


def _mean_line(window: list[dict[str, Any]]) -> dict[str, Any]:
    last = window[-1]
    line = {"step": last["step"], "epoch": last["epoch"], "learning_rate": last["learning_rate"]}
    for key in ("loss", "grad_norm"):
        # fp16 begins with a few steps whose gradients overflow and are skipped: they have no norm.
        finite = [entry[key] for entry in window if math.isfinite(entry.get(key, math.nan))]
        if finite:
            line[key] = sum(finite) / len(finite)
    return line
