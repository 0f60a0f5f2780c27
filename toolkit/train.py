"""Dataset and base to adapter folder, by QLoRA (Dettmers et al. 2023) with the `transformers` Trainer.

The loss is computed at the supervised positions only, over packed sequences (`packing.py`). An interrupted run goes on
from its last whole checkpoint (`checkpoints.py`) and ends with the same bytes as without the interruption.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from toolkit import bases, cards, chat, checkpoints, model, rows
from toolkit.errors import EnvironmentLacks, InputError, ToolkitError
from toolkit.folder import (
    atomic_folder,
    check_replaceable,
    json_hash,
    library_versions,
    unwritable,
    write_json,
    write_jsonl,
    write_manifest,
)
from toolkit.packing import answer_loss, collate
from toolkit.recipe import Recipe, TrainingSettings
from toolkit.watching import Progress, Watch, callback, log_lines, stopping_on_signals

# What the libraries raise on a checkpoint that is damaged, and on a disk that is full.
DAMAGED = (RuntimeError, ValueError, KeyError, EOFError, SafetensorError)


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a finished training left behind."""

    adapter: Path
    steps: int
    resumed_from: int
    loss: float | None
    validation_loss: float | None
    seconds: float


class Interrupted(ToolkitError):
    """Training was asked to stop and wrote a checkpoint."""

    exit_code = 130


def train(
    dataset: rows.LocatedDataset,
    out: Path,
    recipe: Recipe,
    *,
    checkpoint_folder: Path | None = None,
    restart: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
) -> TrainResult:
    """Fine-tune an adapter and write its folder; an interrupted run continues from its last whole checkpoint.

    Args:
        dataset: Where the rows are; its `train` split is learnt, the loss on `validation` is logged.
        out: The adapter folder, written whole at the end.
        recipe: All settings.
        checkpoint_folder: Where checkpoints are kept until the run is over; beside `out` by default.
        restart: Forget the checkpoints of an earlier run.
        progress: Called after every optimiser step.

    Raises:
        InputError: Rows that do not fit the recipe, or checkpoints of a run with other settings or data.
        EnvironmentLacks: The recipe needs a GPU.
        Interrupted: SIGINT or SIGTERM came; the same command continues.
    """
    check_replaceable(out, "adapter")
    _check_environment(recipe.training)
    base = bases.locate_base(recipe.base, recipe.base_revision)
    tokenizer = model.load_tokenizer(base.path)
    training_rows = rows.read_split(dataset, "train")
    examples = _encode_rows(tokenizer, training_rows, recipe, "train")
    validation = _encode_rows(tokenizer, rows.read_split(dataset, "validation"), recipe, "validation")
    if not examples:
        raise InputError(f"The dataset {dataset.id} has no rows in its train split.", "Check it with `pkt validate`.")
    dataset_facts = _dataset_facts(dataset)
    identity = {
        "recipe": json_hash(what_decides(recipe)),
        "dataset": dataset_facts["content"],
        "base": bases.base_hash(base),
    }
    kept = checkpoint_folder or out.with_name(f"{out.name}-checkpoints")
    resume = checkpoints.prepare(kept, identity, restart=restart)

    precision = model.chosen_precision(recipe.training.quantization)
    model.seed_everything(recipe.seed)
    peft_model = model.add_lora(model.load_base(base, precision), recipe.lora, recipe.seed)
    watch = Watch(progress, checkpoints.seconds_so_far(resume))
    trainer = _trainer(peft_model, examples, validation, recipe, kept, precision, watch)
    with stopping_on_signals(watch), _full_disk_is_clear(kept):
        state = _finish(trainer, resume, watch)
    if state.global_step < state.max_steps:
        raise Interrupted(f"Stopped at step {state.global_step}.", "Run the same command to continue from there.")

    facts = {
        # Where the descriptions came from is the dataset's to tell, and may be a private place.
        "recipe": recipe.model_dump(exclude={"dataset"}),
        "seed": recipe.seed,
        "base": {
            "id": base.id,
            "revision": base.revision,
            "content": identity["base"],
            "license": bases.base_license(base),
            "parameters": _base_parameters(peft_model),
            "architecture": type(peft_model.get_base_model()).__name__,
        },
        "dataset": dataset_facts,
        **rows.shared_opening(training_rows),
        "steps": state.global_step,
        "examples_seen": round(state.epoch * len(examples)),
        "supervised_tokens": sum(len(example.answer_ids) for example in examples),
        "trainable_parameters": sum(p.numel() for p in peft_model.parameters() if p.requires_grad),
        "train_seconds": round(watch.seconds(), 1),
        "peak_memory_bytes": model.peak_memory_bytes(),
        "hardware": model.hardware(),
        "precision": model.precision_facts(precision),
        "training_libraries": library_versions(),
    }
    with _full_disk_is_clear(out), atomic_folder(out, "adapter") as folder:
        model.save_adapter(peft_model, tokenizer, base, folder)
        write_jsonl(folder / "training_log.jsonl", log_lines(state.log_history, recipe.training.log_every))
        write_json(folder / model.ANSWERS, sorted({rows.answer_of(row) for row in training_rows}))
        cards.render_model_card(folder, facts)
        write_manifest(folder, "adapter", facts)
    checkpoints.remove(kept)
    return TrainResult(out, state.global_step, watch.resumed_from, watch.loss, watch.validation_loss, watch.seconds())


def _finish(trainer: Any, resume: Path | None, watch: Watch) -> Any:
    """Train from the checkpoint, if any, to the last step or an interruption; the Trainer's state at the end.

    A checkpoint of the last step is taken as it is: the Trainer itself would add a step to it.
    """
    from transformers import TrainerState

    if resume is not None:
        state = TrainerState.load_from_json(str(resume / "trainer_state.json"))
        if state.global_step >= state.max_steps:
            model.restore_adapter(trainer.model, resume)
            watch.take_from(state.log_history, state.global_step)
            return state
    try:
        with model.memory_errors():
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    except DAMAGED as error:
        if resume is None or watch.steps_taken:
            raise
        raise InputError(
            f"The checkpoint {resume} is damaged: {str(error).split(chr(10))[0]}.", "Give --restart to begin anew."
        ) from error
    return trainer.state


def _check_environment(settings: TrainingSettings) -> None:
    import torch

    if settings.optimizer == "paged_adamw_8bit" and not torch.cuda.is_available():
        raise EnvironmentLacks(
            "The recipe's optimizer paged_adamw_8bit needs a CUDA GPU, and this machine has none.",
            "Run on a GPU machine, or give --optimizer adamw to try it on this CPU.",
        )


def _encode_rows(tokenizer: Any, split: list[dict[str, Any]], recipe: Recipe, name: str) -> list[chat.Example]:
    examples = []
    for number, row in enumerate(split):
        try:
            example = chat.encode(tokenizer, row["messages"])
        except InputError as error:
            raise InputError(f"Row {number} of {name}: {error.found}", error.remedy) from error
        if len(example.input_ids) > recipe.training.max_length:
            raise InputError(
                f"Row {number} of {name} has {len(example.input_ids)} tokens, "
                f"more than max_length = {recipe.training.max_length}.",
                "Raise --max-length, or build the dataset with a smaller --max-characters.",
            )
        examples.append(example)
    return examples


def what_decides(recipe: Recipe) -> dict[str, Any]:
    """The settings that change the adapter: a checkpoint made with others can not be continued."""
    return recipe.model_dump(include={"base", "base_revision", "seed", "lora", "training"})


def _dataset_facts(dataset: rows.LocatedDataset) -> dict[str, Any]:
    manifest = dataset.manifest()
    return {
        "id": dataset.id,
        "revision": dataset.revision,
        "content": dataset.content(),
        "rows": {split: count for split in rows.SPLITS if (count := rows.count_rows(dataset, split))},
        "license": manifest.get("license"),
        "sources": [source["name"] for source in manifest.get("sources", [])],
    }


def _base_parameters(peft_model: Any) -> int:
    """Parameters of the base; a 4-bit weight holds two in a byte, which its shape does not say."""
    total = 0
    for name, parameter in peft_model.named_parameters():
        if "lora_" not in name:
            state = getattr(parameter, "quant_state", None)
            total += math.prod(state.shape) if state is not None else parameter.numel()
    return total


def _trainer(
    peft_model: Any,
    examples: list[chat.Example],
    validation: list[chat.Example],
    recipe: Recipe,
    checkpoint_folder: Path,
    precision: model.Precision,
    watch: Watch,
) -> Any:
    from transformers import PrinterCallback, Trainer, TrainingArguments

    settings = recipe.training
    arguments = TrainingArguments(
        output_dir=str(checkpoint_folder),
        per_device_train_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=settings.batch_size // settings.micro_batch_size,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.scheduler,
        warmup_steps=settings.warmup_steps,
        max_steps=settings.max_steps or -1,
        num_train_epochs=settings.epochs or 1,
        optim={"adamw": "adamw_torch", "paged_adamw_8bit": "paged_adamw_8bit"}[settings.optimizer],
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        bf16=precision.compute == "bfloat16",
        fp16=precision.compute == "float16",
        use_cpu=precision.compute == "float32",
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
    trainer = Trainer(
        model=peft_model,
        args=arguments,
        train_dataset=examples,
        data_collator=collate,
        compute_loss_func=answer_loss,
        callbacks=[callback(watch, validation, settings.save_every)],
    )
    trainer.model_accepts_loss_kwargs = False
    trainer.loss_is_scaled_for_ga = True
    trainer.remove_callback(PrinterCallback)
    return trainer


@contextmanager
def _full_disk_is_clear(folder: Path) -> Iterator[None]:
    """The libraries wrap what the system says of a full disk in errors of their own."""
    try:
        yield
    except OSError as error:
        raise unwritable(folder, error) from error
    except DAMAGED as error:
        said = str(error)
        if "No space left" in said or "file write failed" in said or "PytorchStreamWriter failed" in said:
            raise unwritable(folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error
        raise
