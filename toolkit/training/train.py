"""Dataset and base to adapter folder, by QLoRA (Dettmers et al. 2023) with the `transformers` Trainer.

An interrupted run continues from its last complete checkpoint and ends with the same bytes as an uninterrupted one,
and so does one that several processes share (`processes.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit import cards
from toolkit.core import Note, ignore, size
from toolkit.core.errors import InputError, ToolkitError, library_errors
from toolkit.core.folder import (
    atomic_folder,
    changed_by_hand,
    check_replaceable,
    json_hash,
    library_versions,
    read_jsonl,
    read_manifest,
    recover,
    refuse_other_results,
    write_json,
    write_jsonl,
    write_manifest,
)
from toolkit.core.layout import (
    ADAPTER_WEIGHTS,
    ANSWERS,
    BENCHMARK,
    HELD_OUT,
    MANIFEST,
    SPLITS,
    TAKEN_NAMES,
    TASK,
    TRAINING_LOG,
)
from toolkit.core.recipe import Recipe, TrainingSettings, load_recipe, switched_off
from toolkit.data.dataset import (
    LocatedDataset,
    Row,
    answer_of,
    count_rows,
    locate_dataset,
    names_of,
    read_split,
    shared_opening,
)
from toolkit.model import base as bases
from toolkit.model import chat, loading, saving
from toolkit.model.centroids import centroids_of, write_centroids
from toolkit.model.kernels import ONEDNN, available_kernels, best_kernels, float32_kernels
from toolkit.model.memory import (
    chosen_quantization,
    disk_errors,
    hardware,
    memory_errors,
    peak_memory_bytes,
    size_of,
    this_machine,
)
from toolkit.training import processes
from toolkit.training.checkpoints import Start, begun, prepare_checkpoints, remove_checkpoints
from toolkit.training.contrast import states_after
from toolkit.training.lessons import Lesson, answers_of, encode_rows, prepare_lessons
from toolkit.training.micro_batch import MicroBatch
from toolkit.training.progress import (
    BEST,
    PROXIES,
    History,
    TrainingProgress,
    TrainingState,
    best_step,
    last_losses,
    log_lines,
    stopping_on_signals,
    stops_early,
)
from toolkit.training.trackers import where_losses_are_drawn
from toolkit.training.trainer import check_environment, make_trainer, prepare_model

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase, Trainer, TrainerState


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a finished training left behind.

    Attributes:
        adapter: Its folder.
        steps: Optimiser steps in all.
        epochs: Passes over the train split.
        resumed_from: The step that this process continued from; 0 for a new run, `steps` for one that was finished.
        best_step: The step whose adapter was written, if its validation loss decided that.
        loss: Training loss of the last step; of the last line of the log where this process took none.
        validation_loss: Of the adapter that was written.
        seconds: Of training, interrupted parts included.
        tokens_per_second: Of prompts and answers in this process; None where it took no step.
        peak_memory_bytes: Of the GPU if there is one, else of the process.
        notes: Warnings, such as a damaged checkpoint or a smaller micro-batch.
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


@processes.joined()
def train(
    dataset: str | Path | LocatedDataset,
    out: str | Path,
    recipe: Recipe | str = "demo",
    *,
    checkpoints: Path | None = None,
    restart: bool = False,
    shard: bool = False,
    progress: Callable[[TrainingProgress], None] = ignore,
    note: Note = ignore,
) -> TrainResult:
    """Fine-tune an adapter and write its folder; an interrupted run continues from its last complete checkpoint.

    A finished adapter of the same recipe, data and base is left as it is; another one is replaced only by `restart`.
    Processes that torchrun or `accelerate launch` started share the work, with the same result in all of them.

    Args:
        dataset: Folder or Hub id; trains on its `train` split and logs the loss on `validation`.
        out: The adapter folder, written whole at the end.
        recipe: All settings, or the name of a recipe.
        checkpoints: Folder of the checkpoints until the run ends; beside `out` by default.
        restart: Begin anew: discard the checkpoints of an earlier run, and replace a finished adapter in `out`, which
            stays until the new one is whole.
        shard: Divide the base among the processes (FSDP), which each read it from all, with the same result.
        progress: Called after every optimiser step.
        note: Called with each of the result's `notes`, at once.

    Raises:
        InputError: Rows that do not fit the recipe, or checkpoints or an adapter of a run with other settings or data.
        EnvironmentLacks: The recipe needs a GPU, bf16, a package, or more memory.
        Interrupted: SIGINT or SIGTERM came; the same call continues.
        ToolkitError: The training diverged, or changed nothing.
        ProcessLost: Another process that shared the work ended.
    """
    from peft import set_peft_model_state_dict

    if processes.rank() > 0:
        progress = note = ignore
    notes: list[str] = []

    def say(text: str) -> None:
        notes.append(text)
        note(text)

    out = Path(out)
    # "." and ".." are no names that checkpoints could lie beside.
    out = out.resolve() if out.name in ("", "..") else out
    asked = load_recipe(recipe) if isinstance(recipe, str) else recipe
    settings = asked.training
    if asked.task != "name":
        raise InputError(f"The recipe {asked.name} makes no adapter, but an encoder.", "Call `train_encoder`.")
    check_replaceable(out, "adapter", even_changed=True)
    check_environment(settings)
    shard = shard or processes.WANTS_FSDP
    if shard and processes.world() == 1:
        raise InputError("There is one process, and `shard` divides the base among several.", "Start several.")
    folder = checkpoints or out.with_name(f"{out.name}-checkpoints")
    in_turns, by_the_first = processes.in_turns, processes.by_the_first
    located = dataset if isinstance(dataset, LocatedDataset) else in_turns(lambda: locate_dataset(str(dataset)))
    begun_by = asked if restart else _as_begun(asked, folder)
    if not restart:
        # Before the base, which may be a download.
        in_turns(lambda: finished(out, folder, begun_by, dataset=located.rows_hash()))
    base = in_turns(lambda: bases.locate_base(asked.base, asked.base_revision, recipe=begun_by, note=say))
    inputs = processes.at_once(lambda: _prepare_inputs(located, base, begun_by, say))
    known = {name: inputs.identity[name] for name in ("dataset", "base")}
    if not restart and in_turns(lambda: finished(out, folder, begun_by, **known)):
        say(f"{out} holds the adapter of this recipe, data and base already; `restart=True` trains it again.")
        by_the_first(lambda: remove_checkpoints(folder) if begun(folder, inputs.identity) else None)
        facts, log = read_manifest(out, "adapter"), read_jsonl(out / TRAINING_LOG)
        return _result(out, facts, log, facts["steps"], notes)
    if restart and (changed := changed_by_hand(out)):
        say(f"{out} will be replaced with what was changed or added there by hand: {', '.join(changed[:5])}.")
    anew = restart and processes.rank() == 0
    start = in_turns(lambda: prepare_checkpoints(folder, inputs.identity, restart=anew, kernels=best_kernels()))
    for text in start.notes:
        say(text)
    kernels = _kernels(start, say)
    with float32_kernels(kernels):
        peft_model, precision, micro_batch = prepare_model(inputs.base, inputs.recipe, inputs.lessons, say, shard)
        fresh = saving.weights_hash(peft_model)
        about = {"first step": start.step, "precision": precision, "micro-batch": micro_batch.size, "adapter": fresh}
        processes.check_same(inputs.identity | about)
        if settings.track:
            say(where_losses_are_drawn(settings.track, folder))
        training = TrainingState(progress, start.spent)
        trainer = make_trainer(
            peft_model, inputs.lessons, inputs.validation, inputs.recipe, folder, precision, micro_batch, training
        )
        with stopping_on_signals(training), disk_errors(folder):
            state = _finish(trainer, start, training, settings)
    if not _is_over(state, settings):
        raise Interrupted(f"Stopped at step {state.global_step}.", "Run it again, without `restart`, to continue.")
    kept = best_step(state.log_history) if training.best is not None else None
    if kept:
        set_peft_model_state_dict(peft_model, training.best)
    if saving.weights_hash(peft_model) == fresh:
        warm_up = ", or lower `training.warmup_steps`" if settings.warmup_steps >= state.global_step else ""
        raise ToolkitError(
            f"After {state.global_step:,} steps the adapter changes nothing: the base answers as without it.",
            f"Raise `training.max_steps` or `training.learning_rate`{warm_up}, and run again with `restart=True`.",
        )
    facts = _facts(inputs, peft_model, state, training, replace(precision, kernels=kernels), micro_batch, kept)
    # By all, since all read a divided base together.
    states = _states(inputs, peft_model, precision.compute) if settings.contrast else None
    by_the_first(lambda: _write(out, inputs, peft_model, state, kept, facts, states))
    by_the_first(lambda: remove_checkpoints(folder))
    return _result(out, facts, state.log_history, start.step, notes, training.tokens_per_second())


def finished(out: Path, checkpoints: Path, recipe: Recipe, **inputs: str) -> bool:
    """Whether a folder holds the finished adapter of a recipe, and of the inputs (`dataset`, `base`) with these hashes.

    Raises:
        InputError: It holds another one, and no interrupted run was to replace that.
    """
    recover(out)
    if not (out / MANIFEST).is_file():
        return False
    manifest = read_manifest(out, "adapter")
    made_by = load_recipe(manifest.get("recipe"))
    if recipe.training.quantization == "auto":
        recipe = _quantised(recipe, made_by.training.quantization)
    wanted = {"recipe": json_hash(deciding_settings(recipe)), **inputs}
    known = {name: manifest.get(name, {}).get("content") for name in inputs}
    # Compared as settings: a default of 32 is read back as 32.0, which has another hash.
    same = deciding_settings(made_by) == deciding_settings(recipe)
    known["recipe"] = wanted["recipe"] if same else None
    if begun(checkpoints, wanted, before=manifest.get("steps") if known == wanted else None):
        return False
    refuse_other_results(out, known, wanted)
    return True


def _as_begun(recipe: Recipe, checkpoints: Path) -> Recipe:
    """The recipe, for `auto` with the quantization of its unfinished run, whatever would be chosen now."""
    if recipe.training.quantization == "auto":
        for choice in (_quantised(recipe, "none"), _quantised(recipe, "nf4")):
            if begun(checkpoints, {"recipe": json_hash(deciding_settings(choice))}):
                return choice
    return recipe


def _quantised(recipe: Recipe, held: str) -> Recipe:
    return recipe.model_copy(update={"training": recipe.training.model_copy(update={"quantization": held})})


def _kernels(start: Start, note: Note) -> str | None:
    """Kernels for float32 products: those that the run began with, where this machine has them."""
    available = available_kernels()
    if start.kernels in available:
        return start.kernels
    if start.kernels:
        note(f"The run began with {start.kernels}'s kernels, which this machine lacks: others will round differently.")
        return best_kernels()
    # Nothing but oneDNN has to be asked for.
    return next((name for name in available if name != ONEDNN), None)


def _result(
    out: Path,
    facts: Mapping[str, Any],
    history: History,
    resumed_from: int,
    notes: Sequence[str],
    tokens_per_second: float | None = None,
) -> TrainResult:
    best = facts.get("best_step")
    losses, took, memory = last_losses(history, best), facts["train_seconds"], facts["peak_memory_bytes"]
    steps, epochs = facts["steps"], facts["epochs"]
    return TrainResult(out, steps, epochs, resumed_from, best, *losses, took, tokens_per_second, memory, tuple(notes))


@dataclass(frozen=True, slots=True)
class _Inputs:
    """Settings, base, and rows as tokens; `identity` holds the hashes of what decides the adapter, `names` those of all
    splits."""

    recipe: Recipe
    base: bases.LocatedBase
    tokenizer: PreTrainedTokenizerBase
    dataset: LocatedDataset
    rows: list[Row]
    names: list[str]
    lessons: list[Lesson]
    validation: list[chat.Example]
    identity: dict[str, str]


def _prepare_inputs(located: LocatedDataset, base: bases.LocatedBase, recipe: Recipe, note: Note) -> _Inputs:
    """Turn the dataset's rows into tokens of the base."""
    recipe = _with_quantization(recipe, base, note)
    tokenizer = loading.load_tokenizer(base.path)
    chat.set_template(tokenizer)
    training_rows = read_split(located, "train")
    lessons = prepare_lessons(tokenizer, training_rows, recipe, note)
    validation_rows = read_split(located, "validation")
    asked = {number: row["messages"] for number, row in enumerate(validation_rows)}
    validation = list(encode_rows(tokenizer, asked, recipe.training.max_length, "validation").values())
    names = names_of([*training_rows, *validation_rows, *_held_out(located, note)])
    if not training_rows:
        there = ", ".join(located.files())
        raise InputError(
            f"The dataset {located.id} has no rows to train on: its splits are {there}.",
            "Name the files of one train-00000-of-00001.parquet, or name another dataset.",
        )
    if recipe.training.early_stopping and not validation:
        raise InputError(
            f"The dataset {located.id} has no rows in its validation split, which `training.early_stopping` needs.",
            "Build it with a larger `dataset.validation_size`, or do without early stopping.",
        )
    if recipe.training.keep == "best" and not validation:
        note("Without rows in the validation split no step is known as the best: the last one's adapter is written.")
    identity = {
        "recipe": json_hash(deciding_settings(recipe)),
        "dataset": located.rows_hash(),
        "base": bases.base_hash(base),
    }
    return _Inputs(recipe, base, tokenizer, located, training_rows, names, lessons, validation, identity)


def _held_out(dataset: LocatedDataset, note: Note) -> list[Row]:
    """The rows that are held out, of which nothing is read but their names: a new name must not be one of them."""
    try:
        return [row for split in sorted(HELD_OUT) for row in read_split(dataset, split)]
    except InputError as error:
        note(f"The names that are held out cannot be read, and may be given as new ones: {error.found}")
        return []


def _with_quantization(recipe: Recipe, base: bases.LocatedBase, note: Note) -> Recipe:
    """The recipe with what `auto` comes to on this machine; how a base is published stays beyond it."""
    config = bases.read_config(base.id, base.path / bases.CONFIG)
    if recipe.training.quantization != "auto" or bases.published_quantization(config):
        return recipe
    machine = this_machine(recipe.training.compute)
    held = chosen_quantization(size_of(config), recipe, machine)
    if held == "nf4":
        note(f"Unquantised, the base takes more than half of the {size(machine.memory)} here: it is held in 4 bits.")
    return _quantised(recipe, held)


def deciding_settings(recipe: Recipe) -> dict[str, Any]:
    """The settings that change the adapter; a run cannot continue from a checkpoint made with others."""
    deciding = recipe.model_dump(include={"base", "base_revision", "seed", "lora", "training"})
    # Settings of newer versions count once they are used: else no run of an older one could go on.
    unused = ["compute"] if recipe.training.compute == "auto" else []
    for key in ("track", *unused, *switched_off(deciding["training"])):
        del deciding["training"][key]
    newer = ("use_rslora", "use_dora", "modules_to_save")
    deciding["lora"] = {key: value for key, value in deciding["lora"].items() if value or key not in newer}
    return deciding


def _finish(trainer: Trainer, start: Start, training: TrainingState, settings: TrainingSettings) -> TrainerState:
    """Train from the checkpoint, if any, to the last step or an interruption; return the Trainer's state.

    A checkpoint of the last step is taken as it is: the Trainer itself would add a step to it.
    """
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file
    from transformers import TrainerState

    if start.checkpoint is not None:
        with library_errors(
            f"The checkpoint {start.checkpoint} cannot be continued", "Begin anew with `restart=True`."
        ):
            state = TrainerState.load_from_json(str(start.checkpoint / "trainer_state.json"))
            weights = load_file(start.checkpoint / ADAPTER_WEIGHTS)
            best = start.checkpoint / BEST
            training.best = load_file(best) if best.is_file() else None
            if training.proxies is not None:
                training.proxies.data.copy_(load_file(start.checkpoint / f"{PROXIES}.safetensors")[PROXIES])
        if _is_over(state, settings):
            set_peft_model_state_dict(trainer.model, weights)
            return state
    with memory_errors():
        trainer.train(resume_from_checkpoint=start.checkpoint and str(start.checkpoint))
    return trainer.state


def _is_over(state: TrainerState, settings: TrainingSettings) -> bool:
    early = stops_early(state.log_history, settings.early_stopping)
    return bool(early or state.global_step >= state.max_steps)


def _facts(
    inputs: _Inputs,
    peft_model: PeftModel,
    state: TrainerState,
    training: TrainingState,
    precision: loading.Precision,
    micro_batch: MicroBatch,
    kept: int | None,
) -> dict[str, Any]:
    """What a manifest says: settings, base, adapter, dataset, and how the training went."""
    spent = training.spent()
    trainable, parameters = peft_model.get_nb_trainable_parameters()
    ends = chat.end_of_turn_ids(inputs.tokenizer, peft_model.generation_config)
    return {
        # The sources of the descriptions are the dataset's to name, and may be private paths.
        "recipe": inputs.recipe.model_dump(exclude={"dataset"}),
        "seed": inputs.recipe.seed,
        "base": {
            "id": inputs.base.id,
            "revision": inputs.base.revision,
            "content": inputs.identity["base"],
            "license": bases.base_license(inputs.base),
            "parameters": parameters - trainable,
            "architecture": type(peft_model.get_base_model()).__name__,
        },
        "supervised_tokens": sum(len(example.answer_ids) for example in inputs.lessons[0].examples.values()),
        "trainable_parameters": trainable,
        "dataset": trained_on(inputs.dataset, inputs.identity["dataset"]),
        **shared_opening(inputs.rows),
        # Where an answer ends, by the base's generation settings too.
        "stop_tokens": [token for token in inputs.tokenizer.convert_ids_to_tokens(ends) if token],
        "taken_names": len(inputs.names),
        "steps": state.global_step,
        "epochs": round(state.epoch, 2),
        **({} if kept is None else {"best_step": kept}),
        "examples_seen": round(state.epoch * len(inputs.rows)),
        "train_seconds": round(spent.seconds, 1),
        **({} if spent.energy_joules is None else {"energy_joules": round(spent.energy_joules)}),
        "peak_memory_bytes": peak_memory_bytes(),
        "hardware": hardware(),
        **({} if processes.world() == 1 else {"processes": processes.world()}),
        "precision": loading.precision_facts(precision),
        "micro_batch_size": micro_batch.size,
        "gradient_checkpointing": micro_batch.checkpointing,
        "training_libraries": library_versions(),
    }


def trained_on(dataset: LocatedDataset, content: str) -> dict[str, Any]:
    """What a manifest says of the dataset, `content` being the hash of its rows."""
    manifest, counts = dataset.manifest(), {split: count_rows(dataset, split) for split in SPLITS}
    return {
        "id": dataset.id,
        "revision": dataset.revision,
        "content": content,
        "rows": {split: count for split, count in counts.items() if count},
        "license": manifest.get("license"),
        "sources": [source["name"] for source in manifest.get("sources", [])],
        **({"task": TASK} if BENCHMARK in manifest.get("files", ()) else {}),
    }


def _states(inputs: _Inputs, peft_model: PeftModel, compute: str) -> torch.Tensor:
    """The states after the prompts of the rows as they are, `[rows, hidden]`."""
    prompts = [example.input_ids[: example.answer_start] for example in inputs.lessons[0].examples.values()]
    return states_after(peft_model.eval(), prompts, compute)


def _write(
    out: Path,
    inputs: _Inputs,
    peft_model: PeftModel,
    state: TrainerState,
    kept: int | None,
    facts: dict[str, Any],
    states: torch.Tensor | None,
) -> None:
    """Write the adapter folder; with centroids by the states, where answers were contrasted."""
    log_every = inputs.recipe.training.log_every
    with disk_errors(out), atomic_folder(out, "adapter", even_changed=True) as folder:
        saving.save_adapter(peft_model, inputs.tokenizer, inputs.base, folder)
        write_jsonl(folder / TRAINING_LOG, log_lines(state.log_history, log_every, kept))
        if states is not None:
            write_centroids(folder, centroids_of(states, list(map(answer_of, inputs.rows))))
        else:
            write_json(folder / ANSWERS, answers_of(inputs.rows))
        write_json(folder / TAKEN_NAMES, inputs.names)
        cards.render_model_card(folder, facts)
        write_manifest(folder, "adapter", facts)
