"""Dataset and base to adapter folder, by QLoRA (Dettmers et al. 2023) with the `transformers` Trainer.

The loss is computed at the supervised positions only, over packed sequences (`packing.py`), in pieces that fit the
memory (`fitting.py`). An interrupted run goes on from its last whole checkpoint (`checkpoints.py`) and ends with the
same bytes as without the interruption.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from toolkit import cards
from toolkit.core.errors import InputError, ToolkitError
from toolkit.core.folder import (
    atomic_folder,
    check_replaceable,
    json_hash,
    library_versions,
    write_json,
    write_jsonl,
    write_manifest,
)
from toolkit.core.layout import ADAPTER_WEIGHTS, ANSWERS, SPLITS
from toolkit.core.recipe import Recipe, TrainingSettings
from toolkit.data.dataset import LocatedDataset, answer_of, count_rows, read_split, shared_opening
from toolkit.model import adapter as adapters
from toolkit.model import base as bases
from toolkit.model import chat, loading, memory
from toolkit.model.memory import full_disk_is_clear, memory_errors
from toolkit.training import checkpoints, log
from toolkit.training.prepare import fitting_model
from toolkit.training.progress import BEST, Progress, Watch, stopping_on_signals
from toolkit.training.trainer import check_environment, make_trainer, tensorboard_folder

# What the libraries raise on a checkpoint that is damaged, and on a disk that is full.
DAMAGED = (RuntimeError, ValueError, KeyError, EOFError, SafetensorError)


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a finished training left behind.

    Attributes:
        adapter: Its folder.
        steps: Optimiser steps that were taken in all.
        epochs: Passes over the train split that these are.
        resumed_from: The step that this process continued from; 0 at the beginning.
        best_step: The step whose adapter was written, where it was chosen by its validation loss.
        loss: Training loss of the last step.
        validation_loss: Of the adapter that was written.
        seconds: Of training, those before an interruption included.
        tokens_per_second: Of prompts and answers in this process; None where it took no step.
        peak_memory_bytes: Of the GPU when there is one, else of the process.
        notes: What happened that was not asked for: a damaged checkpoint, less memory than hoped.
    """

    adapter: Path
    steps: int
    epochs: float
    resumed_from: int
    best_step: int | None
    loss: float | None
    validation_loss: float | None
    seconds: float
    tokens_per_second: float | None
    peak_memory_bytes: int
    notes: tuple[str, ...]


class Interrupted(ToolkitError):
    """Training was asked to stop and wrote a checkpoint."""

    exit_code = 130


def train(
    dataset: LocatedDataset,
    out: Path,
    recipe: Recipe,
    *,
    checkpoint_folder: Path | None = None,
    restart: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> TrainResult:
    """Fine-tune an adapter and write its folder; an interrupted run continues from its last whole checkpoint.

    Args:
        dataset: Where the rows are; its `train` split is learnt, the loss on `validation` is logged.
        out: The adapter folder, written whole at the end.
        recipe: All settings.
        checkpoint_folder: Where checkpoints are kept until the run is over; beside `out` by default.
        restart: Forget the checkpoints of an earlier run.
        progress: Called after every optimiser step.
        say: Called with each of the result's notes when it happens.

    Raises:
        InputError: Rows that do not fit the recipe, or checkpoints of a run with other settings or data.
        EnvironmentLacks: The recipe needs a GPU, a package, or more memory.
        Interrupted: SIGINT or SIGTERM came; the same command continues.
        ToolkitError: The training diverged, or changed nothing.
    """
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        say(text)

    check_replaceable(out, "adapter")
    settings = recipe.training
    check_environment(settings)
    base = bases.locate_base(recipe.base, recipe.base_revision, recipe=recipe, note=note)
    tokenizer = loading.load_tokenizer(base.path)
    chat.settle(tokenizer)
    training_rows = read_split(dataset, "train")
    examples = _encode_rows(tokenizer, training_rows, recipe, "train")
    validation = _encode_rows(tokenizer, read_split(dataset, "validation"), recipe, "validation")
    _check_rows(dataset, examples, validation, settings)
    if settings.keep == "best" and not validation:
        note("Without rows in the validation split no step is known as the best: the last one's adapter is written.")
    dataset_facts = _dataset_facts(dataset)
    identity = {
        "recipe": json_hash(what_decides(recipe)),
        "dataset": dataset_facts["content"],
        "base": bases.base_hash(base),
    }
    kept = checkpoint_folder or out.with_name(f"{out.name}-checkpoints")
    start = checkpoints.prepare(kept, identity, restart=restart)
    for text in start.notes:
        note(text)

    peft_model, precision, fit = fitting_model(base, recipe, examples, note)
    if settings.track:
        note(_where_losses_are_drawn(settings.track, kept))
    watch = Watch(progress, checkpoints.seconds_so_far(start.checkpoint))
    trainer = make_trainer(peft_model, examples, validation, recipe, kept, precision, fit, watch)
    with stopping_on_signals(watch), full_disk_is_clear(kept):
        state = _finish(trainer, start, watch, settings)
    if not _is_over(state, settings):
        raise Interrupted(
            f"Stopped at step {state.global_step}.", "Run it again, without --restart, to continue there."
        )
    best_step = _put_best(peft_model, watch, state)

    facts = {
        **_facts(recipe, base, identity["base"], peft_model, examples),
        "dataset": dataset_facts,
        **shared_opening(training_rows),
        "stop_tokens": _stop_tokens(tokenizer, peft_model),
        "steps": state.global_step,
        "epochs": round(state.epoch, 2),
        **({} if best_step is None else {"best_step": best_step}),
        "examples_seen": round(state.epoch * len(examples)),
        "train_seconds": round(watch.seconds(), 1),
        "peak_memory_bytes": memory.peak_memory_bytes(),
        "hardware": memory.hardware(),
        "precision": loading.precision_facts(precision),
        "micro_batch_size": fit.micro_batch,
        "gradient_checkpointing": fit.checkpointing,
        "training_libraries": library_versions(),
    }
    with full_disk_is_clear(out), atomic_folder(out, "adapter") as folder:
        adapters.save_adapter(peft_model, tokenizer, base, folder)
        _check_learnt(folder, state.global_step, settings)
        write_jsonl(folder / "training_log.jsonl", log.log_lines(state.log_history, settings.log_every, kept=best_step))
        write_json(folder / ANSWERS, sorted({answer_of(row) for row in training_rows}))
        cards.render_model_card(folder, facts)
        write_manifest(folder, "adapter", facts)
    checkpoints.remove(kept)
    loss, validation_loss = log.last_losses(state.log_history)
    return TrainResult(
        adapter=out,
        steps=state.global_step,
        epochs=state.epoch,
        resumed_from=start.step,
        best_step=best_step,
        loss=loss,
        validation_loss=log.loss_at(state.log_history, best_step) if best_step else validation_loss,
        seconds=watch.seconds(),
        tokens_per_second=watch.tokens_per_second(),
        peak_memory_bytes=facts["peak_memory_bytes"],
        notes=tuple(notes),
    )


def _check_rows(
    dataset: LocatedDataset,
    examples: Sequence[chat.Example],
    validation: Sequence[chat.Example],
    settings: TrainingSettings,
) -> None:
    if not examples:
        raise InputError(f"The dataset {dataset.id} has no rows in its train split.", "Check it with `pkt validate`.")
    if settings.early_stopping and not validation:
        raise InputError(
            f"The dataset {dataset.id} has no rows in its validation split, which early_stopping looks at.",
            "Build it with a larger --validation-size, or leave --early-stopping out.",
        )


def _facts(
    recipe: Recipe, base: bases.LocatedBase, content: str, peft_model: Any, examples: Sequence[chat.Example]
) -> dict[str, Any]:
    """What a manifest says of the settings, the base and the adapter."""
    return {
        # Where the descriptions came from is the dataset's to tell, and may be a private place.
        "recipe": recipe.model_dump(exclude={"dataset"}),
        "seed": recipe.seed,
        "base": {
            "id": base.id,
            "revision": base.revision,
            "content": content,
            "license": bases.base_license(base),
            "parameters": _base_parameters(peft_model),
            "architecture": type(peft_model.get_base_model()).__name__,
        },
        "supervised_tokens": sum(len(example.answer_ids) for example in examples),
        "trainable_parameters": sum(p.numel() for p in peft_model.parameters() if p.requires_grad),
    }


def _stop_tokens(tokenizer: Any, peft_model: Any) -> list[str]:
    """The tokens at which an answer ends, those of the base's generation settings included."""
    ids = chat.end_of_turn_ids(tokenizer, peft_model.generation_config)
    return [token for token in tokenizer.convert_ids_to_tokens(ids) if token]


def _where_losses_are_drawn(track: Sequence[str], kept: Path) -> str:
    commands = {"trackio": "trackio show", "tensorboard": f"tensorboard --logdir {tensorboard_folder(kept)}"}
    return f"To see the losses while it trains: {', '.join(commands[name] for name in track)}."


def _finish(trainer: Any, start: checkpoints.Start, watch: Watch, settings: TrainingSettings) -> Any:
    """Train from the checkpoint, if any, to the last step or an interruption; the Trainer's state at the end.

    A checkpoint of the last step is taken as it is: the Trainer itself would add a step to it.
    """
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file
    from transformers import TrainerState

    resume = start.checkpoint
    try:
        if resume is not None:
            if (resume / BEST).is_file():
                watch.best = load_file(resume / BEST)
            state = TrainerState.load_from_json(str(resume / "trainer_state.json"))
            if _is_over(state, settings):
                set_peft_model_state_dict(trainer.model, load_file(resume / ADAPTER_WEIGHTS))
                return state
        with memory_errors():
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    except DAMAGED as error:
        if resume is None or watch.steps_taken:
            raise
        raise InputError(
            f"The checkpoint {resume} can not be continued: {str(error).split(chr(10))[0]}.",
            "Give --restart to begin anew.",
        ) from error
    return trainer.state


def _is_over(state: Any, settings: TrainingSettings) -> bool:
    return bool(state.global_step >= state.max_steps or log.stops_early(state.log_history, settings.early_stopping))


def _put_best(peft_model: Any, watch: Watch, state: Any) -> int | None:
    """Put the weights of the lowest validation loss into the model, where they were kept; their step."""
    from peft import set_peft_model_state_dict

    if watch.best is None:
        return None
    set_peft_model_state_dict(peft_model, watch.best)
    return log.best_step(state.log_history)


def _check_learnt(folder: Path, steps: int, settings: TrainingSettings) -> None:
    if adapters.adapter_changes_nothing(folder):
        warm_up = ", or lower --warmup-steps" if settings.warmup_steps >= steps else ""
        raise ToolkitError(
            f"After {steps:,} steps the adapter changes nothing: with it, the base would answer as without it.",
            f"Raise --max-steps or --learning-rate{warm_up}, and run again with --restart.",
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
    deciding = recipe.model_dump(include={"base", "base_revision", "seed", "lora", "training"})
    del deciding["training"]["track"]
    return deciding


def _dataset_facts(dataset: LocatedDataset) -> dict[str, Any]:
    manifest = dataset.manifest()
    return {
        "id": dataset.id,
        "revision": dataset.revision,
        "content": dataset.content(),
        "rows": {split: count for split in SPLITS if (count := count_rows(dataset, split))},
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
