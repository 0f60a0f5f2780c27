"""Adapter and dataset to evaluation: does it identify, does it invent, and is it better than what costs nothing?

Everything is measured with the base in the precision that the card's snippet loads it in, and says so. What the models
answer goes into predictions, and every figure is worked out from these.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit import __version__, cards
from toolkit.core.errors import InputError
from toolkit.core.folder import (
    atomic_folder,
    check_replaceable,
    json_hash,
    manifest_facts,
    read_manifest,
    sha256_file,
    write_json,
    write_jsonl,
    write_manifest,
)
from toolkit.core.layout import ADAPTER_WEIGHTS
from toolkit.core.recipe import DecodingSettings, EvaluationSettings
from toolkit.core.results import SCHEMA, read_evaluation
from toolkit.data.dataset import LocatedDataset, description_of
from toolkit.evaluation import encoder, identification, summary
from toolkit.evaluation.answers import Questions, Reader, Say
from toolkit.evaluation.asking import Asked, baseline_predictions, model_predictions, read_asked
from toolkit.evaluation.journal import Journal
from toolkit.evaluation.predictions import Prediction, write_predictions
from toolkit.model import adapter as adapters
from toolkit.model import loading, memory
from toolkit.model.adapter import identity
from toolkit.model.memory import memory_errors

ADAPTER, REPORT = "adapter", "evaluation"
BASELINES = ("base", "tfidf", "tfidf_centroid", "encoder", "frequent", summary.CHANCE)
# An encoder is another model, and not everyone has it.
DEFAULT_BASELINES = tuple(name for name in BASELINES if name != "encoder")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What stands beside the adapter.

    Attributes:
        baselines: Of `BASELINES`.
        against: Other adapters, by folder or Hub id.
        encoder: Model of the encoder baseline; None takes the usual one.
    """

    baselines: Sequence[str] = DEFAULT_BASELINES
    against: Sequence[str] = ()
    encoder: str | None = None


def evaluate(
    adapter: Path,
    dataset: LocatedDataset,
    settings: EvaluationSettings,
    decoding: DecodingSettings,
    seed: int,
    *,
    compare: Comparison | None = None,
    output: Path | None = None,
    templates: Path | None = None,
    restart: bool = False,
    progress: Say = lambda _what, _done, _of: None,
    say: Callable[[str], None] = lambda _note: None,
) -> dict[str, Any]:
    """Measure an adapter; write figures, predictions, samples and card into its folder, or a report elsewhere.

    Interrupted and run again, it goes on where it stopped.

    Args:
        adapter: A folder that `train` wrote, which is replaced whole; or any adapter's folder, with an `output`.
        dataset: Where `test` and `unseen` are read from, and `train` for the baselines.
        settings: How much is measured.
        decoding: How names are sampled.
        seed: Decides the sampled names, the control and the resamples of the intervals.
        compare: What stands beside the adapter.
        output: A folder of its own for the report, in place of the adapter's.
        templates: A folder of card templates that stand in for the toolkit's.
        restart: Forget an interrupted evaluation.
        progress: Called with what is being done, how many rows are done, and of how many.
        say: Told in a sentence what the user had better know.

    Returns:
        What `evaluation.json` holds.

    Raises:
        InputError: An adapter can not be loaded, or the dataset has neither `test` nor `unseen`.
        EnvironmentLacks: The memory is too small, or a package is missing.
    """
    compare = compare or Comparison()
    target, kind = (adapter, ADAPTER) if output is None else (output, REPORT)
    manifest = read_manifest(adapter, ADAPTER) if output is None else {}
    check_replaceable(target, kind)
    if templates is not None:
        cards.check_templates(templates)
    asked, others = read_asked(dataset, settings), _others(compare.against)
    models = {name: identity(folder, settings.quantization) for name, folder in {ADAPTER: adapter, **others}.items()}
    used = {
        "evaluation": settings.model_dump(),
        "decoding": decoding.model_dump(),
        "compare": [*compare.baselines, *others],
        **({"encoder": _encoder(compare)} if "encoder" in compare.baselines else {}),
    }
    content = dataset.content()
    known_by = [__version__, SCHEMA, content, models, used, seed, memory.drawing_machine()]
    with closing(Journal(_journal_of(target), json_hash(known_by), restart=restart)) as journal:
        if journal.found:
            say(f"An evaluation that was interrupted goes on: {journal.found} answers are kept.")
        precision, predictions = _ask(adapter, others, asked, settings, decoding, seed, compare, journal, progress)
        evaluation = {
            "schema": SCHEMA,
            "seed": seed,
            "dataset": {"id": dataset.id, "revision": dataset.revision, "content": content},
            "adapter": {"weights": sha256_file(adapter / ADAPTER_WEIGHTS), "identity": models[ADAPTER]},
            "candidates": len(asked.known),
            "precision": loading.precision_facts(precision),
            "machine": memory.drawing_machine(),
            "settings": used,
            **figures(predictions, asked, seed, compare.baselines),
        }
        with atomic_folder(target, kind) as folder:
            if kind == ADAPTER:
                shutil.copytree(adapter, folder, dirs_exist_ok=True)
            write_json(folder / "evaluation.json", evaluation)
            write_jsonl(folder / "samples.jsonl", _samples(predictions, asked))
            write_predictions(folder, predictions)
            _finish(folder, kind, manifest, evaluation, templates)
        journal.remove()
    return evaluation


def figures(
    predictions: Sequence[Prediction], asked: Asked, seed: int, compared: Sequence[str] = (summary.CHANCE,)
) -> dict[str, Any]:
    """The part of `evaluation.json` that follows from the predictions: `test` and `unseen`.

    Args:
        predictions: What `predictions.parquet` holds.
        asked: The dataset's rows, as `asking.read_asked` finds them.
        seed: That of the evaluation.
        compared: The baselines that were asked for.
    """
    return {
        "test": summary.identification(predictions, len(asked.known), seed, chance=summary.CHANCE in compared),
        "unseen": summary.invention(predictions, asked.known, asked.names, asked.training_answers, seed),
    }


def _others(against: Sequence[str]) -> dict[str, Path]:
    """Folders of the adapters to compare with, under the names that the report gives them: no path of this machine."""
    found: dict[str, Path] = {}
    for given in against:
        folder = adapters.locate_adapter(given)
        name = folder.resolve().name if Path(given).is_dir() else given
        if name in (ADAPTER, *BASELINES):
            name = f"{folder.resolve().parent.name}/{name}"
        if name in found:
            raise InputError(f"Two of the adapters to compare with are called {name}.", "Rename one of the folders.")
        found[name] = folder
    return found


def _encoder(compare: Comparison) -> str:
    """The model of the encoder baseline, as a report may say it: no path of this machine."""
    given = compare.encoder or encoder.DEFAULT_ENCODER
    return Path(given).resolve().name if Path(given).is_dir() else given


def _journal_of(target: Path) -> Path:
    """Beside the folder, because that one is replaced as a whole."""
    whole = target.resolve()
    return whole.with_name(f"{whole.name}-evaluation.jsonl")


def _ask(
    adapter: Path,
    others: dict[str, Path],
    asked: Asked,
    settings: EvaluationSettings,
    decoding: DecodingSettings,
    seed: int,
    compare: Comparison,
    journal: Journal,
    progress: Say,
) -> tuple[loading.Precision, list[Prediction]]:
    """The precision of the adapter's base, and what adapter, base, other adapters and baselines answer."""
    sampled = [(row, seed + number) for number, (_, row) in enumerate(asked.shown)]
    partners = identification.shuffled_partners(asked.creatures, seed)
    predictions: list[Prediction] = []

    def ask(method: str, peft_model: Any, tokenizer: Any) -> None:
        control = partners if method == ADAPTER else [[] for _ in asked.test]
        questions = Questions(asked.test, asked.known, control, sampled, decoding, settings.names_per_description)
        reader = Reader(method, peft_model, tokenizer, questions, journal, progress)
        with memory_errors():
            predictions.extend(model_predictions(reader, asked, questions))

    peft_model, tokenizer, precision = adapters.load_adapter(adapter, settings.quantization)
    ask(ADAPTER, peft_model, tokenizer)
    if "base" in compare.baselines:
        with peft_model.disable_adapter():
            ask("base", peft_model, tokenizer)
    for name, folder in others.items():
        # Two models do not stay in memory at once.
        del peft_model, tokenizer
        peft_model, tokenizer, _ = adapters.load_adapter(folder, settings.quantization)
        ask(name, peft_model, tokenizer)
    return precision, predictions + baseline_predictions(asked, compare.baselines, compare.encoder, progress)


def _samples(predictions: Sequence[Prediction], asked: Asked) -> list[dict[str, Any]]:
    """The lines of samples.jsonl."""
    sampled = [prediction for prediction in predictions if prediction.method == ADAPTER and prediction.names]
    return [
        {
            "split": split,
            "id": prediction.id,
            "description": description_of(row),
            "messages": row["messages"][:-1],
            "answer": prediction.answer,
            "greedy": prediction.greedy,
            "names": prediction.names,
            "identified": prediction.top if split == "test" else None,
        }
        for (split, row), prediction in zip(asked.shown, sampled, strict=True)
    ]


def _finish(
    folder: Path, kind: str, manifest: dict[str, Any], evaluation: dict[str, Any], templates: Path | None
) -> None:
    """Figures, card and manifest. The settings that were used replace those of the training: others read them there."""
    if kind == REPORT:
        cards.draw_plots([], read_evaluation(folder)[0], folder / "figures")
        write_manifest(folder, kind, {"evaluation_precision": evaluation["precision"]})
        return
    used = {key: evaluation["settings"][key] for key in ("decoding", "evaluation")}
    facts = cards.with_templates(
        {
            **manifest_facts(manifest),
            "recipe": manifest["recipe"] | used,
            "evaluation_precision": evaluation["precision"],
        },
        templates,
    )
    cards.render_model_card(folder, facts, facts.get("repo_id"), templates)
    write_manifest(folder, kind, facts)
