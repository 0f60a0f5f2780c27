"""The base with a fresh adapter, and the `transformers` Trainer that trains it in micro-batches that fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.core import Note
from toolkit.core.errors import EnvironmentLacks, InputError, ToolkitError, library_errors
from toolkit.core.recipe import Recipe, TrainingSettings
from toolkit.model import loading
from toolkit.model.base import CONFIG, LocatedBase, read_config
from toolkit.model.chat import Example
from toolkit.model.kernels import has_bf16
from toolkit.model.loading import Precision
from toolkit.model.memory import (
    MEASURED,
    activation_bytes,
    compute_dtype,
    device_kind,
    free_cache,
    memory_errors,
    size_of,
)
from toolkit.training import contrast, processes
from toolkit.training.lessons import Batch, Lesson, draw
from toolkit.training.micro_batch import MicroBatch
from toolkit.training.progress import TrainingState, reporter
from toolkit.training.trackers import check_installed, tracked_run, trackers

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import Trainer, TrainerState, TrainingArguments


def check_environment(settings: TrainingSettings) -> None:
    """Check that this machine has what the settings need.

    Raises:
        EnvironmentLacks: It has no GPU, one without bf16, or lacks a package.
        InputError: There are more processes than examples in a step.
    """
    if processes.world() > settings.batch_size:
        raise InputError(
            f"{processes.world()} processes cannot share steps of {settings.batch_size} examples.",
            "Start fewer, or raise `training.batch_size`.",
        )
    if settings.compute == "bfloat16" and compute_dtype() == "float16":
        raise EnvironmentLacks(
            "This machine's GPU does not compute in bfloat16.",
            'Give `training.compute="auto"`, which is float16 on it, or "float32".',
        )
    if settings.optimizer == "paged_adamw_8bit" and device_kind() != "cuda":
        raise EnvironmentLacks(
            "The recipe's optimizer paged_adamw_8bit needs a CUDA GPU, and this machine has none.",
            'Run on a machine with one, or give `training.optimizer="adamw"`.',
        )
    check_installed(settings.track or [])


def prepare_model(
    base: LocatedBase, recipe: Recipe, lessons: Sequence[Lesson], note: Note, shard: bool = False
) -> tuple[PeftModel, Precision, MicroBatch]:
    """The base with a fresh adapter, in a precision and a micro-batch that fit a step on the longest examples.

    Raises:
        InputError: The base cannot be trained.
        ToolkitError: The loss or its gradients are NaN or infinite before any training.
        EnvironmentLacks: Not even one example fits into memory.
    """

    longest_first = [
        sorted(lesson.examples.values(), key=lambda example: len(example.input_ids), reverse=True) for lesson in lessons
    ]
    precision = loading.chosen_precision(base, recipe.training.quantization, recipe.training.compute)
    token_bytes = activation_bytes(size_of(read_config(base.id, base.path / CONFIG)), precision.compute)
    micro_batch = MicroBatch(recipe.training, longest_first, token_bytes, note, shard)
    if recipe.training.compute == "bfloat16" and device_kind() == "cpu" and not has_bf16():
        note("This CPU has no instructions for bfloat16: it computes slower than in float32, and rounds more.")
    peft_model, overflowed = _first_pass(base, recipe, precision, micro_batch, longest_first)
    if overflowed and precision.compute == "float16":
        note(f"{overflowed} does not fit fp16 on the longest example: everything is computed in fp32.")
        precision = precision.widened(overflowed)
        del peft_model
        free_cache()
        peft_model, overflowed = _first_pass(base, recipe, precision, micro_batch, longest_first)
    if overflowed:
        raise ToolkitError(
            f"The base {base.id} computes NaN or infinity before any training: {overflowed}.",
            "Download the base again, or choose another.",
        )
    micro_batch.measure(peft_model, longest_first, precision.compute)
    micro_batch.check_packing(peft_model, longest_first, precision.compute)
    return peft_model, precision, micro_batch


def _first_pass(
    base: LocatedBase,
    recipe: Recipe,
    precision: Precision,
    micro_batch: MicroBatch,
    longest_first: Sequence[Sequence[Example]],
) -> tuple[PeftModel, str | None]:
    """The base with a fresh adapter, and what overflows the precision when each lesson's first example goes through."""
    import torch
    from transformers import set_seed

    held, remedy = "", "Choose another base."
    if precision.base == "nf4":
        held, remedy = " held in NF4", 'Give `training.quantization="none"`, or choose another base.'
    with library_errors(f"The base {base.id} cannot be trained{held}", remedy), memory_errors():
        set_seed(recipe.seed)
        peft_model = loading.add_lora(loading.load_base(base, precision), recipe.lora, recipe.seed)
        with loading.autocast(precision.compute):
            micro_batch.prepare(peft_model)
        peft_model.train()
        probe = [Batch(str(number), 1.0, examples[:1]) for number, examples in enumerate(longest_first)]
        return peft_model, loading.overflow(
            peft_model,
            precision.compute,
            lambda probed: torch.stack([*micro_batch.gradients(probed, probe, lambda loss: loss.backward()).values()]),
        )


def make_trainer(
    peft_model: PeftModel,
    lessons: Sequence[Lesson],
    validation: Sequence[Example],
    recipe: Recipe,
    folder: Path,
    precision: Precision,
    micro_batch: MicroBatch,
    training: TrainingState,
) -> Trainer:
    """A Trainer of the adapter that keeps its checkpoints in `folder`."""
    from transformers import PrinterCallback, Trainer

    settings = recipe.training

    class AnswerTrainer(Trainer):  # type: ignore[misc]
        """Computes a step's gradients in micro-batches, and the validation loss before a checkpoint."""

        def training_step(self, model: PeftModel, inputs: dict[str, list[int]], _items: object = None) -> torch.Tensor:
            model.train()
            step = self.state.global_step
            batches = draw(lessons, inputs["rows"], recipe.seed, step)
            losses = micro_batch.gradients(
                model, batches, self.accelerator.backward, training.proxies, f"{recipe.seed}/{step}"
            )
            self.losses = {column: float(loss) for column, loss in losses.items()}
            # Before the optimiser's step, so that no weight ever moves on NaN.
            for column, value in self.losses.items():
                self._check_number(column.replace("_", " "), value, step + 1)
            training.tokens += sum(len(example.input_ids) for batch in batches for example in batch.examples)
            # What names cost stays comparable, whatever else is learnt.
            return losses["loss"]

        def create_optimizer(self, model: PeftModel | None = None) -> torch.optim.Optimizer:
            optimizer: torch.optim.Optimizer = super().create_optimizer(model)
            if training.proxies is not None:
                # The Trainer clips the gradients of its model's parameters only, so these count for nothing there.
                rate = contrast.FASTER * settings.learning_rate
                optimizer.add_param_group({"params": [training.proxies], "lr": rate, "weight_decay": 0.0})
            return optimizer

        def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
            # The adapter alone: the Trainer adds the base's embeddings where the adapter is on them too.
            self.model.save_pretrained(output_dir, save_embedding_layers=False)

        def floating_point_ops(self, inputs: object) -> int:
            return 0  # Nobody reads them, and counting takes time in every step.

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            if "loss" in logs:
                logs |= {column: value for column, value in self.losses.items() if column not in logs}
                # The gradient scaler of fp16 skips steps whose gradients overflow.
                if self.accelerator.scaler is None:
                    self._check_number("gradient norm", logs.get("grad_norm", 0.0), self.state.global_step)
                if validation and _is_planned(self.state, settings.save_every):
                    logs["validation_loss"] = micro_batch.validation_loss(self.model, validation)
                    self._check_number("validation loss", logs["validation_loss"], self.state.global_step)
            super().log(logs, start_time)

        def _check_number(self, name: str, value: float, step: int) -> None:
            if not math.isfinite(value):
                kept = "; the last checkpoint before it is kept" if any(folder.glob("checkpoint-*")) else ""
                raise ToolkitError(
                    f"The {name} is {value} at step {step}{kept}.",
                    "Lower `training.learning_rate`, and run again with `restart=True`.",
                )

    tracked = trackers(settings.track or [], tracked_run(recipe, folder)) if processes.rank() == 0 else []
    trainer = AnswerTrainer(
        model=peft_model,
        args=_arguments(recipe, folder, precision),
        train_dataset=range(len(lessons[0].examples)),
        data_collator=lambda rows: {"rows": rows},
        callbacks=[reporter(training, settings), *tracked],
    )
    if settings.contrast:
        with loading.autocast(precision.compute):
            answers = len(set(lessons[0].labels.values()))
            training.proxies = contrast.first_proxies(trainer.model, answers, recipe.seed)
    trainer.loss_is_scaled_for_ga = True
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(recipe: Recipe, folder: Path, precision: Precision) -> TrainingArguments:
    from transformers import TrainingArguments

    settings, kind = recipe.training, device_kind()
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.scheduler,
        warmup_steps=settings.warmup_steps,
        max_steps=settings.max_steps or -1,
        num_train_epochs=settings.epochs or 1,
        optim={"adamw": "adamw_torch", "paged_adamw_8bit": "paged_adamw_8bit"}[settings.optimizer],
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        bf16=precision.compute == "bfloat16",
        fp16=kind in MEASURED and precision.compute == "float16",
        use_cpu=kind == "cpu",
        # A batch is the numbers of its rows, which stay on the CPU.
        dataloader_pin_memory=False,
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
    # One process has one GPU: the Trainer would spread larger batches over all that it sees.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def _is_planned(state: TrainerState, save_every: int) -> bool:
    return bool(state.global_step % save_every == 0 or state.global_step == state.max_steps)
