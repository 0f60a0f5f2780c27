"""A sentence encoder and a dataset in; evaluation.json, predictions, samples and the card out, as for an adapter.

The encoder stands where the adapter stands, its base (the encoder before any training, asked in the same way) where an
adapter's base stands. There are no figures of `unseen`: an encoder invents no names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.core import Note, Progress, ignore
from toolkit.core.folder import check_replaceable, read_json, read_manifest, refuse_other_results, sha256_file
from toolkit.core.layout import CENTROIDS, DEFAULT_BASELINES, ENCODER, EVALUATION
from toolkit.core.recipe import Recipe, load_recipe
from toolkit.core.results import SCHEMA
from toolkit.data.dataset import LocatedDataset, answer_of, description_of, locate_dataset
from toolkit.evaluation.evaluate import figures_of, write_results
from toolkit.evaluation.identification import shuffled_partners
from toolkit.evaluation.predictions import (
    ADAPTER,
    SAMPLED_TEST_ROWS,
    EvaluationRows,
    Prediction,
    baseline_predictions,
    read_rows,
    similarity_predictions,
)
from toolkit.model import encoder as encoders
from toolkit.model.kernels import best_kernels, float32_kernels
from toolkit.model.loading import Precision, precision_facts
from toolkit.model.memory import drawing_machine, memory_errors


def evaluate_encoder(
    folder: str | Path,
    dataset: str | Path | LocatedDataset,
    *,
    recipe: Recipe | str | None = None,
    baselines: Sequence[str] = DEFAULT_BASELINES,
    templates: Path | None = None,
    restart: bool = False,
    progress: Progress = ignore,
    note: Note = ignore,
) -> dict[str, Any]:
    """Measure how well an encoder identifies, and write figures, predictions, samples and the card into its folder.

    Args:
        folder: One that `train_encoder` wrote; it is replaced whole.
        dataset: Folder or Hub id; provides `test`, and `train` for the baselines and the base's centroids.
        recipe: Its `evaluation.max_test` and its seed are used; by default the encoder's own.
        baselines: Of `BASELINES`; `encoder` is the default encoder's nearest training description.
        templates: A folder of card templates that replace the toolkit's.
        restart: Replace a finished evaluation of other settings or data.
        progress: Called with what is done.
        note: Called when an edited card is kept.

    Returns:
        The content of `evaluation.json`.

    Raises:
        InputError: No encoder, no rows of `test`, or the folder holds an evaluation of other settings or data.
    """
    folder = Path(folder)
    manifest = read_manifest(folder, ENCODER)
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe or manifest["recipe"])
    check_replaceable(folder, ENCODER, even_changed=True)
    located = dataset if isinstance(dataset, LocatedDataset) else locate_dataset(str(dataset))
    rows = read_rows(located, recipe.evaluation)
    about = {"weights": sha256_file(folder / "model.safetensors"), "centroids": sha256_file(folder / CENTROIDS)}
    head = {
        "seed": recipe.seed,
        "dataset": {"id": located.id, "revision": located.revision, "content": located.rows_hash()},
        "adapter": about,
        "settings": {
            **recipe.model_dump(include={"evaluation", "decoding"}),
            "compare": list(baselines),
        },
    }
    if not restart and (folder / EVALUATION).is_file():
        refuse_other_results(folder, read_json(folder / EVALUATION), head)
    with float32_kernels(best_kernels()), memory_errors():
        predictions = _predict(encoders.open_encoder(folder), manifest, rows, recipe.seed, baselines, progress)
    evaluation = {
        "schema": SCHEMA,
        "candidates": len(rows.candidates),
        "precision": precision_facts(Precision("none", "float32")),
        "machine": drawing_machine(),
        **head,
        **figures_of(predictions, rows, recipe.seed, baselines),
    }
    samples = _samples(predictions, rows)
    write_results(folder, manifest, evaluation, predictions, samples, templates, note)
    return evaluation


def _predict(
    encoder: encoders.Encoder,
    manifest: dict[str, Any],
    rows: EvaluationRows,
    seed: int,
    baselines: Sequence[str],
    progress: Progress,
) -> list[Prediction]:
    """The predictions of the encoder, its base and the baselines."""
    asked, partners = [description_of(row) for row in rows.test], shuffled_partners(rows.creatures, seed)
    progress(ADAPTER, 0, len(asked))
    found = similarity_predictions(ADAPTER, _similarities(encoder, rows.candidates, asked), rows, partners)
    progress(ADAPTER, len(asked), len(asked))
    if "base" in baselines and rows.train:
        base = encoders.load_encoder(encoders.locate_encoder(manifest["base"]["id"], manifest["base"]["revision"]).path)
        learnt = encoders.embed(base, [description_of(row) for row in rows.train])
        plain = encoders.Encoder(base, *encoders.centroids_of(learnt, [answer_of(row) for row in rows.train]))
        found += similarity_predictions("base", _similarities(plain, rows.candidates, asked), rows, [[]] * len(asked))
    return found + baseline_predictions(rows, baselines, None, progress)


def _similarities(encoder: encoders.Encoder, candidates: Sequence[str], asked: Sequence[str]) -> encoders.Numbers:
    """The cosine of each description with each candidate's centroid, `[asked, candidates]`; -inf for unknown ones."""
    known = {answer: number for number, answer in enumerate(encoder.answers)}
    found = np.full((len(asked), len(candidates)), -np.inf, dtype=np.float32)
    columns = [column for column, name in enumerate(candidates) if name in known]
    chosen = encoder.centroids[[known[candidates[column]] for column in columns]]
    found[:, columns] = encoders.embed(encoder.model, asked) @ chosen.T
    return found


def _samples(predictions: Sequence[Prediction], rows: EvaluationRows) -> list[dict[str, Any]]:
    """The lines of samples.jsonl: the first rows of `test`; `greedy` is the first answer, and no names are invented."""
    own = [prediction for prediction in predictions if prediction.method == ADAPTER]
    return [
        {
            "split": "test",
            "id": prediction.id,
            "description": description_of(row),
            "answer": prediction.answer,
            "greedy": prediction.top[0],
            "names": [],
            "identified": prediction.top,
        }
        for row, prediction in zip(rows.test[:SAMPLED_TEST_ROWS], own, strict=False)
    ]
