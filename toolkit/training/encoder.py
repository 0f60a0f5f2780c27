"""Dataset and sentence encoder to the folder of an encoder that identifies creatures.

Contrastive (van den Oord et al. 2018): in a batch of pairs of descriptions, each of another creature, a description
is to be nearer, by cosine, to its partner than to all others. What is kept beside the encoder are the centroids of the
creatures. A training takes minutes: an interrupted one leaves nothing, and starts over.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit import cards
from toolkit.core import Note, Progress, ignore
from toolkit.core.errors import InputError, ToolkitError, library_errors
from toolkit.core.folder import (
    atomic_folder,
    check_replaceable,
    library_versions,
    read_manifest,
    recover,
    refuse_other_results,
    write_manifest,
)
from toolkit.core.hub_client import is_hub_id
from toolkit.core.layout import ENCODER, MANIFEST
from toolkit.core.recipe import ENCODER_TRAINING, LoraSettings, Recipe, TrainingSettings, load_recipe
from toolkit.data.dataset import LocatedDataset, answer_of, description_of, locate_dataset, read_split
from toolkit.model import encoder as encoders
from toolkit.model.base import base_hash, base_license
from toolkit.model.centroids import SCALE, write_centroids
from toolkit.model.kernels import best_kernels, float32_kernels
from toolkit.model.memory import device_kind, disk_errors, hardware, memory_errors, peak_memory_bytes
from toolkit.training.lessons import seen_anew
from toolkit.training.train import TrainResult, deciding_settings, trained_on

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def train_encoder(
    dataset: str | Path | LocatedDataset,
    out: str | Path,
    recipe: Recipe | str = "identify-minilm",
    *,
    restart: bool = False,
    progress: Progress = ignore,
    note: Note = ignore,
) -> TrainResult:
    """Fine-tune a sentence encoder on the `train` split, and write its folder.

    A finished encoder of the same recipe, data and base is left as it is; another one is replaced only by `restart`.

    Args:
        dataset: Folder or Hub id.
        out: The encoder's folder, written whole at the end.
        recipe: One of the task `identify`; its base is a sentence encoder on the Hub.
        restart: Train anew, and replace a finished encoder in `out`.
        progress: Called after every optimiser step.
        note: Called when there is nothing to do.

    Raises:
        InputError: A recipe of another task, rows that do not fit, or an encoder of other settings or data in `out`.
        EnvironmentLacks: sentence-transformers is not installed, or the memory is too small.
        HubError: The base or the dataset is not on the Hub, or cannot be reached.
    """
    out, recipe = Path(out), load_recipe(recipe) if isinstance(recipe, str) else recipe
    if recipe.task != "identify":
        raise InputError(f"The recipe {recipe.name} trains an adapter, not an encoder.", 'Give it `task = "identify"`.')
    defaults = {name: field.default for name, field in TrainingSettings.model_fields.items()}
    unused = [name for name in defaults if name not in ENCODER_TRAINING]
    given = [f"`training.{name}`" for name in unused if getattr(recipe.training, name) != defaults[name]]
    if given or recipe.lora != LoraSettings():
        raise InputError(f"An encoder is trained without {', '.join(given) or '`lora`'}.", "Leave that out.")
    if not is_hub_id(recipe.base):
        raise InputError(f"The base {recipe.base} is no Hub id.", "Name a sentence encoder on a Hub as owner/name.")
    check_replaceable(out, ENCODER, even_changed=True)
    located = dataset if isinstance(dataset, LocatedDataset) else locate_dataset(str(dataset))
    base = encoders.locate_encoder(recipe.base, recipe.base_revision)
    # Compared as settings: a default of 4 is read back as 4.0, which has another hash.
    identity: dict[str, Any] = {
        "recipe": deciding_settings(recipe),
        "dataset": located.rows_hash(),
        "base": base_hash(base),
    }
    recover(out)
    if (out / MANIFEST).is_file() and not restart:
        there = read_manifest(out, ENCODER)
        known = {name: there[name]["content"] for name in ("dataset", "base")}
        known["recipe"] = deciding_settings(load_recipe(there["recipe"]))
        refuse_other_results(out, known, identity)
        note(f"{out} holds the encoder of this recipe, data and base already; `restart=True` trains it again.")
        return _result(out, there)
    model, rows = encoders.load_encoder(base.path), read_split(located, "train")
    texts, answers = [description_of(row) for row in rows], [answer_of(row) for row in rows]
    if len(set(answers)) < 2:
        raise InputError(f"The dataset {located.id} has no two creatures to tell apart in train.", "Name another.")
    encoders.check_lengths(model, texts, "The description of train")
    with float32_kernels(best_kernels()), memory_errors(), disk_errors(out):
        course = _fit(model, list(zip(texts, answers, strict=True)), recipe, progress)
        trained = encoders.with_centroids(model, texts, answers)
    facts = {
        # The sources of the descriptions are the dataset's to name, and may be private paths.
        "recipe": recipe.model_dump(exclude={"dataset"}),
        "seed": recipe.seed,
        "base": {
            "id": base.id,
            "revision": base.revision,
            "content": identity["base"],
            "license": base_license(base),
            "parameters": sum(each.numel() for each in model.parameters()),
            "architecture": type(model[0]).__name__,
        },
        "dataset": trained_on(located, identity["dataset"]),
        "languages": sorted({str(row["language"]) for row in rows if row.get("language")}),
        "answers": len(trained.centroids.answers),
        "scale": SCALE,
        **course,
        "peak_memory_bytes": peak_memory_bytes(),
        "hardware": hardware(),
        "training_libraries": {**library_versions(), "sentence-transformers": version("sentence-transformers")},
    }
    with disk_errors(out), atomic_folder(out, ENCODER, even_changed=True) as folder:
        model.save_pretrained(str(folder), create_model_card=False)
        write_centroids(folder, trained.centroids)
        cards.render_model_card(folder, facts)
        write_manifest(folder, ENCODER, facts)
    return _result(out, facts)


def _result(out: Path, facts: dict[str, Any]) -> TrainResult:
    took, memory = facts["train_seconds"], facts["peak_memory_bytes"]
    return TrainResult(out, facts["steps"], facts["epochs"], 0, None, facts["loss"], None, took, None, memory, ())


def pairs(rows: Sequence[tuple[str, str]], recipe: Recipe, steps: int) -> Iterator[tuple[str, str]]:
    """Two descriptions of one creature at a time, as they are seen; `batch_size` pairs in a row are of that many ones.

    The recipe's seed, with the step, decides which creatures, which descriptions and how these are seen.
    """
    known: dict[str, list[str]] = {}
    for text, answer in rows:
        known.setdefault(answer, []).append(text)
    for step in range(steps):
        generator = Random(f"{recipe.seed}/{step}")
        for answer in generator.sample(sorted(known), min(recipe.training.batch_size, len(known))):
            # A creature with one description: it is seen in two ways, or twice.
            chosen = generator.sample(known[answer], 2) if len(known[answer]) > 1 else known[answer] * 2
            first, second = (seen_anew(text, recipe.training, generator) for text in chosen)
            yield first, second


def _fit(
    model: SentenceTransformer, rows: Sequence[tuple[str, str]], recipe: Recipe, progress: Progress
) -> dict[str, Any]:
    """Train the encoder in place by sentence-transformers' trainer; how it went, for the manifest."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from torch.utils.data import SequentialSampler
    from transformers import PrinterCallback, TrainerCallback, set_seed

    class Trainer(SentenceTransformerTrainer):  # type: ignore[misc]
        def add_model_card_callback(self, *_: object) -> None:
            """Collect nothing for a card that is not written."""

    class Reporter(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, _arguments: Any, state: Any, _control: Any, **_: Any) -> None:
            progress("training", state.global_step, state.max_steps)

    settings, started = recipe.training, time.monotonic()
    size = min(settings.batch_size, len({answer for _, answer in rows}))
    steps = settings.max_steps or math.ceil((settings.epochs or 1) * len(rows) / (2 * size))
    first, second = zip(*pairs(rows, recipe, steps), strict=True)
    set_seed(recipe.seed)
    with TemporaryDirectory() as folder, library_errors("The encoder cannot be trained", "Choose another base."):
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=size,
            num_train_epochs=1,
            # As drawn: a batch never holds a creature twice, which would be its own negative.
            batch_sampler=lambda drawn, batch_size, drop_last, **_: DefaultBatchSampler(
                SequentialSampler(drawn), batch_size, drop_last
            ),
            learning_rate=settings.learning_rate,
            lr_scheduler_type=settings.scheduler,
            warmup_steps=settings.warmup_steps,
            weight_decay=settings.weight_decay,
            max_grad_norm=settings.max_grad_norm,
            save_strategy="no",
            logging_steps=1,
            seed=recipe.seed,
            dataloader_pin_memory=device_kind() == "cuda",
            disable_tqdm=True,
            report_to=[],
        )
        trainer = Trainer(
            model,
            arguments,
            Dataset.from_dict({"first": first, "second": second}),
            loss=MultipleNegativesRankingLoss(
                model,
                scale=SCALE,
                directions=("query_to_doc", "doc_to_query"),
                partition_mode="per_direction",
            ),
            callbacks=[Reporter()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    if not np.isfinite(losses).all():
        raise ToolkitError("The loss is not a number.", "Lower `training.learning_rate`, and train again.")
    return {
        "steps": trainer.state.global_step,
        "epochs": round(2 * len(first) / len(rows), 2),
        "examples_seen": 2 * len(first),
        "loss": round(float(np.mean(losses[-settings.log_every :])), 4),
        "train_seconds": round(time.monotonic() - started, 1),
    }
