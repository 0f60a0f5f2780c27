"""What is seen of a running training: progress for people, the best adapter, whole checkpoints, a request to stop.

Knows the Trainer's callbacks, and nothing of what is learnt.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.core.recipe import TrainingSettings
from toolkit.model.adapter import weights_of
from toolkit.model.memory import peak_memory_bytes
from toolkit.training import checkpoints, log

# File of a checkpoint: the adapter of the lowest validation loss so far.
BEST = "best_adapter.safetensors"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where training stands after an optimiser step; what is not known yet is None.

    Attributes:
        step: Optimiser steps taken.
        steps: Optimiser steps in all.
        loss: Training loss of the last step, in nats a supervised token.
        validation_loss: The last one that was computed.
        seconds_left: Until the last step, at the pace so far.
        learning_rate: Of the last step.
        tokens_per_second: Tokens of prompts and answers, at the pace so far in this process.
        memory_bytes: Largest memory in use so far: of the GPU when there is one, else of the process.
    """

    step: int
    steps: int
    loss: float | None
    validation_loss: float | None
    seconds_left: float | None
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    memory_bytes: int | None = None


class Watch:
    """What is seen of a running training, and whether it was asked to stop.

    Attributes:
        tokens: Of prompts and answers that were learnt from in this process.
        elapsed: Seconds from the beginning of training in this process to the end of its last step.
        best: The adapter's weights at the lowest validation loss so far; None without one, or where they stay unused.
        stop_asked: Whether a signal asked for a checkpoint and a stop.
        steps_taken: Whether this process took a step.
    """

    def __init__(self, progress: Callable[[Progress], None], seconds_before: float) -> None:
        self.report = progress
        self.seconds_before = seconds_before
        self.started = time.monotonic()
        self.resumed_from = 0
        self.tokens = 0
        self.elapsed = 0.0
        self.best: dict[str, Any] | None = None
        self.stop_asked = False
        self.steps_taken = False

    def tokens_per_second(self) -> float | None:
        """At the pace so far in this process; None before its first step."""
        return self.tokens / self.elapsed if self.elapsed else None

    def seconds(self) -> float:
        """Seconds of training, those before an interruption included."""
        return self.seconds_before + time.monotonic() - self.started

    def progress(self, state: Any) -> Progress:
        """Where the training stands, by the Trainer's state."""
        self.elapsed = time.monotonic() - self.started
        done = state.global_step - self.resumed_from
        loss, validation_loss = log.last_losses(state.log_history)
        return Progress(
            step=state.global_step,
            steps=state.max_steps,
            loss=loss,
            validation_loss=validation_loss,
            seconds_left=self.elapsed / done * (state.max_steps - state.global_step) if done else None,
            learning_rate=state.log_history[-1].get("learning_rate") if state.log_history else None,
            tokens_per_second=self.tokens_per_second(),
            memory_bytes=peak_memory_bytes(),
        )


def callback(watch: Watch, settings: TrainingSettings) -> Any:
    """What the Trainer calls while it trains: reports, the best adapter so far, marks on whole checkpoints."""
    from transformers import TrainerCallback

    class Reporter(TrainerCallback):  # type: ignore[misc]
        """Reports each step, keeps the best adapter, stops when asked, and marks whole checkpoints."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            watch.resumed_from = state.global_step
            watch.started = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            watch.steps_taken = True
            control.should_save |= watch.stop_asked
            control.should_training_stop |= watch.stop_asked

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
            if "loss" not in logs:
                return
            if settings.keep == "best" and log.best_step(state.log_history) == state.global_step:
                watch.best = weights_of(kwargs["model"])
            over = "validation_loss" in logs and log.stops_early(state.log_history, settings.early_stopping)
            control.should_save |= over
            control.should_training_stop |= over
            watch.report(watch.progress(state))

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            if watch.best is not None:
                from safetensors.torch import save_file

                save_file(watch.best, checkpoint / BEST, metadata={"format": "pt"})
            checkpoints.mark_whole(checkpoint, watch.seconds())

    return Reporter()


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
