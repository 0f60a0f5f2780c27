"""The `transformers` Trainer as it is set up here: one batch a step, computed in pieces that fit; each step logged.

Knows settings and examples, and nothing of datasets, folders and cards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from toolkit.core.errors import EnvironmentLacks, ToolkitError
from toolkit.core.recipe import Recipe, TrainingSettings
from toolkit.model.chat import Example
from toolkit.model.loading import Precision
from toolkit.training import log as history
from toolkit.training.micro_batch import Fit
from toolkit.training.progress import Watch, callback

# The gradient scaler of fp16 skips a few steps until it has found its scale; so many in a row are no search.
MOST_SKIPPED = 20


def check_environment(settings: TrainingSettings) -> None:
    """See that this machine has what the settings need.

    Raises:
        EnvironmentLacks: It has no GPU, or lacks a package.
    """
    import torch

    if settings.optimizer == "paged_adamw_8bit" and not torch.cuda.is_available():
        raise EnvironmentLacks(
            "The recipe's optimizer paged_adamw_8bit needs a CUDA GPU, and this machine has none.",
            "Run on a GPU machine, or give --optimizer adamw to try it on this CPU.",
        )
    lacking = [name for name in settings.track or [] if find_spec(name) is None]
    if lacking:
        raise EnvironmentLacks(
            f"--track {lacking[0]} needs a package that is not installed.", f"pip install {' '.join(lacking)}"
        )


def make_trainer(
    peft_model: Any,
    examples: Sequence[Example],
    validation: Sequence[Example],
    recipe: Recipe,
    folder: Path,
    precision: Precision,
    fit: Fit,
    watch: Watch,
) -> Any:
    """A Trainer of the adapter that keeps its checkpoints in `folder`."""
    from transformers import PrinterCallback, Trainer

    settings = recipe.training

    class AnswerTrainer(Trainer):  # type: ignore[misc]
        """Takes a step's gradients in pieces that fit, and the validation loss before a checkpoint."""

        def training_step(self, model: Any, inputs: dict[str, Any], _items: Any = None) -> Any:
            model.train()
            loss = fit.gradients(model, inputs["examples"], self.accelerator.backward)
            # Before the optimiser's step, so that no weight ever moves on it.
            self._check_number("loss", float(loss), self.state.global_step + 1)
            watch.tokens += sum(len(example.input_ids) for example in inputs["examples"])
            return loss

        def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
            # The adapter alone: the Trainer's own way adds the base's embeddings where the adapter is on them too.
            self.model.save_pretrained(output_dir, save_embedding_layers=False)

        def floating_point_ops(self, inputs: dict[str, Any]) -> int:
            return 0  # Nobody reads them, and counting takes time in every step.

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            if "loss" in logs:
                self._check_gradients(logs.get("grad_norm", 0.0))
                if validation and _is_planned(self.state, settings.save_every):
                    logs["validation_loss"] = fit.validation_loss(self.model, validation)
                    self._check_number("validation loss", logs["validation_loss"], self.state.global_step)
            super().log(logs, start_time)

        def _check_gradients(self, norm: float) -> None:
            """Stop on gradients that are no numbers, unless the gradient scaler skipped them, and not too often."""
            if self.accelerator.scaler is None:
                self._check_number("gradient norm", norm, self.state.global_step)
            elif not math.isfinite(norm) and history.skipped_in_a_row(self.state.log_history) >= MOST_SKIPPED:
                found = f"The gradients overflowed fp16 in {MOST_SKIPPED + 1} steps in a row"
                raise _diverged(found, self.state.global_step, folder)

        def _check_number(self, name: str, value: float, step: int) -> None:
            if not math.isfinite(value):
                raise _diverged(f"The {name} is {value}", step, folder)

    trainer = AnswerTrainer(
        model=peft_model,
        args=_arguments(recipe, folder, precision),
        train_dataset=examples,
        data_collator=lambda batch: {"examples": batch},
        callbacks=[callback(watch, settings), *_trackers(settings, folder)],
    )
    trainer.loss_is_scaled_for_ga = True
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(recipe: Recipe, folder: Path, precision: Precision) -> Any:
    import torch
    from transformers import TrainingArguments

    settings, gpu = recipe.training, torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(folder),
        project="pkt",
        # The same for a run that goes on, and another one for each place.
        run_name="-".join((recipe.name, folder.absolute().parent.name, folder.name.removesuffix("-checkpoints"))),
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.scheduler,
        warmup_steps=settings.warmup_steps,
        max_steps=settings.max_steps or -1,
        num_train_epochs=settings.epochs or 1,
        optim={"adamw": "adamw_torch", "paged_adamw_8bit": "paged_adamw_8bit"}[settings.optimizer],
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        bf16=gpu and precision.compute == "bfloat16",
        fp16=gpu and precision.compute == "float16",
        use_cpu=not gpu,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_steps=settings.save_every,
        save_total_limit=2,
        seed=recipe.seed,
        data_seed=recipe.seed,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to=[],
    )


def _trackers(settings: TrainingSettings, folder: Path) -> list[Any]:
    """The Trainer's own callbacks for what draws the losses."""
    wanted: list[Any] = []
    if "trackio" in (settings.track or []):
        from transformers.integrations import TrackioCallback

        wanted.append(TrackioCallback())
    if "tensorboard" in (settings.track or []):
        from torch.utils.tensorboard import SummaryWriter
        from transformers.integrations import TensorBoardCallback

        wanted.append(TensorBoardCallback(SummaryWriter(str(tensorboard_folder(folder)))))
    return wanted


def tensorboard_folder(checkpoints: Path) -> Path:
    """Where TensorBoard's files lie, given the checkpoints' folder: beside it, because that one is removed."""
    return checkpoints.with_name(f"{checkpoints.name.removesuffix('-checkpoints')}-tensorboard")


def _is_planned(state: Any, save_every: int) -> bool:
    return bool(state.global_step % save_every == 0 or state.global_step == state.max_steps)


def _diverged(found: str, step: int, folder: Path) -> ToolkitError:
    kept = "; the last checkpoint before it is kept" if any(folder.glob("checkpoint-*")) else ""
    return ToolkitError(
        f"{found} at step {step}{kept}.",
        "Lower --learning-rate, and run again with --restart.",
    )
