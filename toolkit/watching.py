"""What is seen of a running training: progress for people, the log, whole checkpoints, and a request to stop.

Knows the Trainer's callbacks, and nothing of what is learnt.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit import checkpoints
from toolkit.chat import Example
from toolkit.errors import ToolkitError
from toolkit.packing import mean_loss


@dataclass(frozen=True, slots=True)
class Progress:
    """Where training stands: optimiser steps, the last losses, seconds left (None before the first step)."""

    step: int
    steps: int
    loss: float | None
    validation_loss: float | None
    seconds_left: float | None


class Watch:
    """What is seen of a running training, and whether it was asked to stop."""

    def __init__(self, progress: Callable[[Progress], None], seconds_before: float) -> None:
        self.report = progress
        self.seconds_before = seconds_before
        self.started = time.monotonic()
        self.resumed_from = 0
        self.loss: float | None = None
        self.validation_loss: float | None = None
        self.stop_asked = False
        self.steps_taken = False

    def take_from(self, history: Sequence[dict[str, Any]], step: int) -> None:
        """Know the last losses of a run that was already finished at `step`."""
        self.resumed_from = step
        for entry in history:
            self.loss = entry.get("loss", self.loss)
            self.validation_loss = entry.get("validation_loss", self.validation_loss)

    def seconds(self) -> float:
        """Seconds of training, those before an interruption included."""
        return self.seconds_before + time.monotonic() - self.started

    def seconds_left(self, step: int, steps: int) -> float | None:
        """Seconds until the last step, at the pace so far in this process."""
        done = step - self.resumed_from
        return (time.monotonic() - self.started) / done * (steps - step) if done else None


def callback(watch: Watch, validation: Sequence[Example], save_every: int) -> Any:
    from transformers import TrainerCallback

    class Reporter(TrainerCallback):  # type: ignore[misc]
        """Reports each step, marks whole checkpoints, and stops on a loss that is not finite."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            watch.resumed_from = state.global_step
            watch.started = time.monotonic()

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
            watch.loss = logs.get("loss", watch.loss)
            if watch.loss is not None and not math.isfinite(watch.loss):
                raise ToolkitError(
                    f"The loss is {watch.loss} at step {state.global_step}; the last checkpoint before it is kept.",
                    "Lower --learning-rate, and run again with --restart.",
                )

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            watch.steps_taken = True
            control.should_save |= watch.stop_asked
            control.should_training_stop |= watch.stop_asked
            planned = state.global_step % save_every == 0 or state.global_step == state.max_steps
            if validation and planned:
                watch.validation_loss = mean_loss(kwargs["model"], validation)
                state.log_history.append({"step": state.global_step, "validation_loss": watch.validation_loss})
            watch.report(
                Progress(
                    state.global_step,
                    state.max_steps,
                    watch.loss,
                    watch.validation_loss,
                    watch.seconds_left(state.global_step, state.max_steps),
                )
            )

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            checkpoints.mark_whole(Path(args.output_dir) / f"checkpoint-{state.global_step}", watch.seconds())

    return Reporter()


def log_lines(history: list[dict[str, Any]], log_every: int) -> list[dict[str, Any]]:
    """The lines of training_log.jsonl: means over `log_every` steps, and each validation loss.

    The Trainer's own history has every step, so a run that was interrupted between two lines writes the same bytes.
    """
    lines: list[dict[str, Any]] = []
    window: list[dict[str, Any]] = []
    steps = [entry for entry in history if "loss" in entry]
    for entry in history:
        if "validation_loss" in entry:
            lines.append(entry)
        elif "loss" in entry:
            window.append(entry)
            if entry["step"] % log_every == 0 or entry is steps[-1]:
                lines.append(_mean_line(window))
                window = []
    return lines


def _mean_line(window: list[dict[str, Any]]) -> dict[str, Any]:
    last = window[-1]
    line = {"step": last["step"], "epoch": last["epoch"], "learning_rate": last["learning_rate"]}
    for key in ("loss", "grad_norm"):
        # fp16 begins with a few steps whose gradients overflow and are skipped: they have no norm.
        finite = [entry[key] for entry in window if math.isfinite(entry.get(key, math.nan))]
        if finite:
            line[key] = sum(finite) / len(finite)
    return line


@contextmanager
def stopping_on_signals(watch: Watch) -> Iterator[None]:
    """SIGINT and SIGTERM ask for a checkpoint and a stop; a second one stops at once."""

    def ask(number: int, _frame: Any) -> None:
        if watch.stop_asked:
            raise KeyboardInterrupt
        watch.stop_asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
