"""The Trainer's history in; progress reports, log lines, the best step and marked checkpoints out.

The Trainer's own history has an entry for every step and lies in every checkpoint, so an interrupted run continues with
the same history.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core.recipe import TrainingSettings
from toolkit.model.memory import peak_memory_bytes
from toolkit.model.saving import weights_of
from toolkit.training import processes
from toolkit.training.checkpoints import Spent, mark_complete

if TYPE_CHECKING:
    import torch
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

# File of a checkpoint: the adapter with the lowest validation loss so far.
BEST = "best_adapter.safetensors"
# Another one, and its tensor: what answers are contrasted with (`contrast.py`).
PROXIES = "proxies"

History = Sequence[dict[str, Any]]
"""The Trainer's history: an entry for each step, with its `loss` and, where one was computed, `validation_loss`."""


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """Where training stands after an optimiser step; unknown values are None.

    Attributes:
        step: Optimiser steps taken.
        steps: Optimiser steps in all.
        loss: Training loss of the last step, in nats per supervised token.
        validation_loss: The last one computed.
        seconds_left: Until the last step, at the pace so far.
        learning_rate: Of the last step.
        tokens_per_second: Tokens of prompts and answers, at the pace so far in this process.
        memory_bytes: Peak memory so far, of the GPU if there is one, else of the process.
    """

    step: int
    steps: int
    loss: float | None
    validation_loss: float | None
    seconds_left: float | None
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    memory_bytes: int | None = None


class TrainingState:
    """What a running training has done in this process, and whether it should stop.

    Attributes:
        tokens: Tokens of prompts and answers seen.
        elapsed: Seconds from the beginning of training to the end of its last step.
        best: The adapter's weights at the lowest validation loss so far; None where they are not kept.
        proxies: Of the answers that are contrasted, `[answers, hidden]`; None without a contrast.
        stop_asked: Whether a signal asked for a checkpoint and a stop.
    """

    def __init__(self, report: Callable[[TrainingProgress], None], before: Spent) -> None:
        self.report, self.before = report, before
        self.tokens, self.elapsed = 0, 0.0
        self.best: dict[str, torch.Tensor] | None = None
        self.proxies: torch.nn.Parameter | None = None
        self.stop_asked = False
        self.begin(0)

    def begin(self, step: int) -> None:
        """Start the clock, at the step that training continues from."""
        self.first_step, self.started, self.joules = step, time.monotonic(), _gpu_joules()

    def spent(self) -> Spent:
        """Time and energy of training so far, interrupted parts included."""
        seconds = self.before.seconds + time.monotonic() - self.started
        before, started, now = self.before.energy_joules, self.joules, _gpu_joules()
        if before is None or started is None or now is None:
            return Spent(seconds, None)
        return Spent(seconds, before + now - started)

    def tokens_per_second(self) -> float | None:
        """At the pace so far; None before the first step."""
        return self.tokens / self.elapsed if self.elapsed else None

    def progress(self, state: TrainerState) -> TrainingProgress:
        """Where training stands, from the Trainer's state."""
        self.elapsed = time.monotonic() - self.started
        done = state.global_step - self.first_step
        loss, validation_loss = last_losses(state.log_history)
        return TrainingProgress(
            step=state.global_step,
            steps=state.max_steps,
            loss=loss,
            validation_loss=validation_loss,
            seconds_left=self.elapsed / done * (state.max_steps - state.global_step) if done else None,
            learning_rate=state.log_history[-1].get("learning_rate") if state.log_history else None,
            tokens_per_second=self.tokens_per_second(),
            memory_bytes=peak_memory_bytes(),
        )


def _gpu_joules() -> float | None:
    """The GPU's energy meter, as NVML reads it; None without an NVIDIA GPU, and where its driver measures nothing.

    None too where several processes train, since this one sees its own GPU alone.
    """
    import torch

    if torch.cuda.is_available() and processes.world() == 1:
        import pynvml

        with suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            gpu = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties().uuid}")
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)) / 1000
    return None


def reporter(training: TrainingState, settings: TrainingSettings) -> TrainerCallback:
    """The Trainer's callback that reports steps, keeps the best adapter, stops, and marks checkpoints as complete."""
    from safetensors.torch import save_file
    from transformers import TrainerCallback

    class Reporter(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, _args: object, state: TrainerState, *_: object, **__: object) -> None:
            training.begin(state.global_step)

        def on_step_end(self, _args: object, _state: object, control: TrainerControl, **_: object) -> None:
            # All take the same steps; the first one alone writes.
            # What all agreed on counts, not what a signal asks of this one since.
            stop = processes.any_of(training.stop_asked or processes.left_alone())
            control.should_save = processes.rank() == 0 and (control.should_save or stop)
            control.should_training_stop |= stop

        def on_log(self, _args: object, state: TrainerState, control: TrainerControl, **given: Any) -> None:
            if "loss" not in given["logs"]:
                return
            if settings.keep == "best" and best_step(state.log_history) == state.global_step:
                training.best = weights_of(given["model"])
            if "validation_loss" in given["logs"] and stops_early(state.log_history, settings.early_stopping):
                control.should_save, control.should_training_stop = processes.rank() == 0, True
            training.report(training.progress(state))

        def on_save(self, args: TrainingArguments, state: TrainerState, *_: object, **__: object) -> None:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            if training.best is not None:
                save_file(training.best, checkpoint / BEST, metadata={"format": "pt"})
            if training.proxies is not None:
                save_file({PROXIES: training.proxies.detach().cpu()}, checkpoint / f"{PROXIES}.safetensors")
            mark_complete(checkpoint, training.spent())

    return Reporter()


@contextmanager
def stopping_on_signals(training: TrainingState) -> Iterator[None]:
    """SIGINT and SIGTERM ask for a checkpoint and a stop; a second one stops at once."""

    def ask(number: int, _frame: object) -> None:
        if training.stop_asked:
            raise KeyboardInterrupt
        training.stop_asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def best_step(history: History) -> int | None:
    """The step of the lowest validation loss, the first of equals; None before any."""
    measured = _validations(history)
    return min(measured, key=lambda entry: float(entry["validation_loss"]))["step"] if measured else None


def stops_early(history: History, patience: int | None) -> bool:
    """Whether the last `patience` validation losses brought no lower one."""
    steps = [entry["step"] for entry in _validations(history)]
    return patience is not None and bool(steps) and len(steps) - 1 - steps.index(best_step(history)) >= patience


def last_losses(history: History, kept: int | None = None) -> tuple[float | None, float | None]:
    """The last training loss, and the validation loss of the step whose adapter is kept, by default the last one."""
    losses = [entry["loss"] for entry in history if "loss" in entry]
    measured = [entry["validation_loss"] for entry in _validations(history) if kept in (None, entry["step"])]
    return losses[-1] if losses else None, measured[-1] if measured else None


def log_lines(history: History, log_every: int, kept: int | None = None) -> list[dict[str, Any]]:
    """The lines of training_log.jsonl: means over `log_every` steps, and each validation loss.

    Args:
        history: Of the Trainer.
        log_every: Steps that a line averages.
        kept: The step whose adapter was written, if its validation loss decided that; its line says so.
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
    for key in ("loss", "contrast_loss", "way_back_loss", "grad_norm"):
        # In fp16 the first steps may overflow and be skipped: they have no norm.
        finite = [entry[key] for entry in window if math.isfinite(entry.get(key, math.nan))]
        if finite:
            line[key] = sum(finite) / len(finite)
    return line
