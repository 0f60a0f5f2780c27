"""An adapter or an encoder and a dataset in; evaluation.json, predictions, samples and the card out.

The base is held in the precision in which the card's snippet loads it, and the evaluation records that. All answers
become predictions, and every figure follows from these. An encoder's are called the adapter's, so that whoever reads
figures finds them in one place, and those of the encoder before training the base's; of `unseen` it has none.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit import __version__, cards
from toolkit.core import Note, Progress, ignore
from toolkit.core.errors import InputError
from toolkit.core.folder import (
    atomic_folder,
    changed_by_hand,
    check_replaceable,
    json_hash,
    keep_edited,
    manifest_facts,
    read_json,
    read_manifest,
    refuse_other_results,
    sha256_file,
    write_json,
    write_jsonl,
    write_manifest,
)
from toolkit.core.layout import (
    ADAPTER_WEIGHTS,
    BASELINES,
    BY_LIKELIHOOD,
    CENTROIDS,
    DEFAULT_BASELINES,
    ENCODER,
    EVALUATION,
    FIGURES,
    MANIFEST,
    NEW_NAMES,
    SAMPLES,
)
from toolkit.core.recipe import Recipe, load_recipe
from toolkit.core.results import SCHEMA, read_evaluation
from toolkit.core.workers import EngineName
from toolkit.data.dataset import LocatedDataset, description_of, locate_dataset
from toolkit.evaluation.answers import AnsweringModel, Journal
from toolkit.evaluation.identification import CHANCE, identification, shuffled_partners
from toolkit.evaluation.invention import invention
from toolkit.evaluation.predictions import (
    ADAPTER,
    EvaluationRows,
    Prediction,
    baseline_predictions,
    encoder_predictions,
    model_predictions,
    read_rows,
    write_predictions,
)
from toolkit.model import encoder as encoders
from toolkit.model.adapter import answers_hash, load_adapter, load_without, locate_adapter, locate_base_of
from toolkit.model.centroids import read_centroids
from toolkit.model.kernels import best_kernels, float32_kernels
from toolkit.model.loading import Precision, precision_facts
from toolkit.model.memory import drawing_machine, free_cache, memory_errors
from toolkit.model.merge import merged_model

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

REPORT = "evaluation"


def evaluate(
    adapter: str | Path,
    dataset: str | Path | LocatedDataset,
    *,
    recipe: Recipe | str | None = None,
    baselines: Sequence[str] = DEFAULT_BASELINES,
    against: Sequence[str] = (),
    encoder: str | None = None,
    base: str | None = None,
    output: Path | None = None,
    templates: Path | None = None,
    restart: bool = False,
    engine: EngineName = "local",
    progress: Progress = ignore,
    note: Note = ignore,
) -> dict[str, Any]:
    """Measure an adapter; write figures, predictions, samples and card into its folder, or a report elsewhere.

    An interrupted evaluation continues where it stopped.

    Args:
        adapter: A folder that `train` or `train_encoder` wrote, which is replaced whole; or any adapter by folder or
            Hub id, with an `output`.
        dataset: Folder or Hub id; provides `test` and `unseen`, and `train` for the baselines.
        recipe: Its evaluation and decoding settings and its seed are used; by default the adapter's own.
        baselines: Of `BASELINES`.
        against: Other adapters to compare with, by folder or Hub id.
        encoder: Folder or Hub id of the encoder baseline; None for the default one.
        base: Hub id or folder of another base than the one that the adapter names; with an `output`.
        output: A folder of its own for the report, in place of the adapter's.
        templates: A folder of card templates that replace the toolkit's.
        restart: Begin anew: discard an interrupted evaluation, and replace a finished one of other settings or data.
        engine: `ray` for the workers of a Ray cluster, each of which loads the model, from the same folder or the Hub.
        progress: Called after each answer.
        note: Called when an interrupted evaluation continues.

    Returns:
        The content of `evaluation.json`.

    Raises:
        InputError: An adapter cannot be loaded, the dataset has neither `test` nor `unseen`, the folder holds an
            evaluation of other settings or data, or an option means nothing to an encoder.
        EnvironmentLacks: Memory is too small, or a package is missing.
    """
    if unknown := set(baselines) - set(BASELINES):
        raise InputError(f"There is no baseline {sorted(unknown)[0]!r}.", f"Choose among {', '.join(BASELINES)}.")
    folder = locate_evaluated(str(adapter), output)
    if base is not None and output is None:
        raise InputError(
            "The figures in an adapter's folder are those on the base that it names.",
            "Give an `output` for the report on another `base`.",
        )
    learnt = encoders.is_encoder(folder)
    if learnt and (
        given := [
            name
            for name, it in (("against", against), ("output", output), ("base", base), ("engine", engine != "local"))
            if it
        ]
    ):
        raise InputError(f"An encoder is evaluated without `{given[0]}`.", "Leave it out.")
    target, kind = (folder, ENCODER if learnt else ADAPTER) if output is None else (output, REPORT)
    manifest = read_manifest(folder, kind) if output is None else {}
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe or own_recipe(folder, output))
    check_replaceable(target, kind, even_changed=kind != REPORT)
    if templates is not None:
        cards.check_templates(templates)
    located = dataset if isinstance(dataset, LocatedDataset) else locate_dataset(str(dataset))
    plan = _Plan(
        {ADAPTER: folder, **_others(against)}, read_rows(located, recipe.evaluation), recipe, baselines, encoder, base
    )
    identities = {
        name: sha256_file(model / CENTROIDS)
        if learnt
        else answers_hash(model, recipe.evaluation.quantization, plan.base_of(name))
        for name, model in plan.adapters.items()
    }
    content, settings = located.rows_hash(), plan.settings()
    weights = folder / (encoders.WEIGHTS if learnt else ADAPTER_WEIGHTS)
    about_adapter: dict[str, Any] = {"weights": sha256_file(weights), "identity": identities[ADAPTER]}
    if base is not None:
        on = locate_base_of(folder, recipe.evaluation.quantization, base)
        about_adapter["base"] = {"id": on.id, "revision": on.revision}
    # What the recipe's settings were chosen by changes no answer.
    deciding = _without_selection(settings)
    known_by = [__version__, SCHEMA, content, identities, deciding, recipe.seed, drawing_machine()]
    with closing(Journal(_journal_of(target), json_hash(known_by), restart=restart)) as journal:
        if journal.found:
            note(f"Continuing an interrupted evaluation: {journal.found} answers are kept.")
        elif not restart and (target / EVALUATION).is_file():
            there = read_json(target / EVALUATION)
            # Publishing writes the base's commit into the adapter's settings, and so gives it another identity.
            adapters = [{**of, "identity": None} for of in (there.get("adapter", {}), about_adapter)]
            known = {**there, "adapter": adapters[0], "dataset": there.get("dataset", {}).get("content")}
            known["settings"] = _without_selection(there.get("settings", {}))
            wanted = {"adapter": adapters[1], "dataset": content, "settings": deciding, "seed": recipe.seed}
            refuse_other_results(target, known, wanted)
        with float32_kernels(best_kernels()):
            if learnt:
                precision, predictions = Precision("none", "float32"), _encoded(plan, manifest["base"], progress)
            else:
                precision, predictions = _predict(plan, journal, progress, engine)
        evaluation = {
            "schema": SCHEMA,
            "seed": recipe.seed,
            "dataset": {"id": located.id, "revision": located.revision, "content": content},
            "adapter": about_adapter,
            "candidates": len(plan.rows.candidates),
            "precision": precision_facts(precision),
            "machine": drawing_machine(),
            "settings": settings,
            **figures_of(predictions, plan.rows, recipe.seed, baselines),
        }
        _write_results(target, manifest, evaluation, predictions, _samples(predictions, plan.rows), templates, note)
        journal.remove()
    return evaluation


def validation_scores(
    adapter: Path, dataset: Path, recipe: Recipe, *, restart: bool = False, progress: Progress = ignore
) -> dict[str, Any]:
    """How well an adapter identifies the rows of `validation`: what settings are chosen by, without a look at `test`.

    Nothing counts of `test` and `unseen` but their names. An interrupted call continues; arguments as of `evaluate`.

    Returns:
        `top1`, `top5`, `mrr` (mean reciprocal rank) and `exact`, each a `value` with its interval and `n` rows.

    Raises:
        InputError: The dataset has no rows in `validation`, or answers are kept of another adapter or other settings.
        EnvironmentLacks: Memory is too small.
    """
    located = locate_dataset(str(dataset))
    rows = read_rows(located, recipe.evaluation, choosing=True)
    plan = _Plan({ADAPTER: adapter}, rows, recipe, (), None, None)
    identity = answers_hash(adapter, recipe.evaluation.quantization)
    known_by = [__version__, located.rows_hash(), identity, _without_selection(plan.settings()), recipe.seed]
    file = adapter.with_name("validation-answers.jsonl")
    with closing(Journal(file, json_hash([*known_by, drawing_machine()]), restart=restart)) as journal:
        with float32_kernels(best_kernels()):
            _, predictions = _predict(plan, journal, progress)
        journal.remove()
    return dict(figures_of(predictions, rows, recipe.seed, ())["test"]["methods"][ADAPTER])


def _without_selection(settings: Mapping[str, Any]) -> dict[str, Any]:
    selection = ("selected_on", "selected_among")
    measured = {key: value for key, value in settings.get("evaluation", {}).items() if key not in selection}
    return {**settings, "evaluation": measured}


def locate_evaluated(adapter: str, output: Path | None, revision: str | None = None) -> Path:
    """The folder of an adapter or encoder: one on this machine or, for a report elsewhere, also a Hub id."""
    if output is None and not Path(adapter).is_dir():
        remedy = "The report on an adapter of the Hub needs a folder of its own: `output`."
        raise InputError(f"There is no adapter folder {adapter}.", remedy)
    return Path(adapter) if encoders.is_encoder(adapter) and revision is None else locate_adapter(adapter, revision)


def own_recipe(adapter: Path, output: Path | None) -> str | dict[str, Any] | None:
    """The recipe that an adapter was trained by; `demo` for a report on an adapter of another trainer, without one."""
    named = output is None or (adapter / MANIFEST).is_file()
    kind = ENCODER if encoders.is_encoder(adapter) else ADAPTER
    recipe: dict[str, Any] | None = read_manifest(adapter, kind).get("recipe") if named else None
    return recipe or ("demo" if output else None)


def figures_of(
    predictions: Sequence[Prediction], rows: EvaluationRows, seed: int, baselines: Sequence[str] = DEFAULT_BASELINES
) -> dict[str, Any]:
    """The figures of `evaluation.json`, `test` and `unseen`, from the predictions alone.

    Args:
        predictions: What `predictions.parquet` holds (`read_predictions`).
        rows: The dataset's rows (`read_rows`), for the candidates and the known names.
        seed: Of the evaluation.
        baselines: Whether chance is one of them.
    """
    splits: dict[str, dict[str, list[Prediction]]] = {"test": {}, "unseen": {}}
    for prediction in predictions:
        splits[prediction.split].setdefault(prediction.method, []).append(prediction)
    return {
        "test": identification(splits["test"], len(rows.candidates), seed, chance=CHANCE in baselines),
        "unseen": invention(splits["unseen"], rows.candidates, rows.names, rows.training_answers, seed, rows.tuning),
    }


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is evaluated: the adapter and those to compare with by name, on which rows, and by which settings."""

    adapters: dict[str, Path]
    rows: EvaluationRows
    recipe: Recipe
    baselines: Sequence[str]
    encoder: str | None
    base: str | None

    def base_of(self, name: str) -> str | None:
        """The base that was given in place of the one that an adapter names: those to compare with keep theirs."""
        return self.base if name == ADAPTER else None

    def settings(self) -> dict[str, Any]:
        """The `settings` of `evaluation.json`."""
        others = [name for name in self.adapters if name != ADAPTER]
        given = self.encoder or encoders.DEFAULT_ENCODER
        # No path of this machine.
        encoder = Path(given).resolve().name if Path(given).is_dir() else given
        return {
            "evaluation": self.recipe.evaluation.model_dump(),
            "decoding": self.recipe.decoding.model_dump(),
            "compare": [*self.baselines, *others],
            **({"encoder": encoder} if "encoder" in self.baselines else {}),
        }


def _others(against: Sequence[str]) -> dict[str, Path]:
    """Folders of the adapters to compare with, under their names in the report: no path of this machine."""
    found: dict[str, Path] = {}
    for given in against:
        folder = locate_adapter(given)
        name = folder.resolve().name if Path(given).is_dir() else given
        if name in (ADAPTER, f"{ADAPTER}{NEW_NAMES}", f"{ADAPTER}{BY_LIKELIHOOD}", *BASELINES):
            name = f"{folder.resolve().parent.name}/{name}"
        if name in found:
            raise InputError(f"Two of the adapters to compare with are called {name}.", "Rename one of the folders.")
        found[name] = folder
    return found


def _journal_of(target: Path) -> Path:
    """Beside the folder, because that one is replaced as a whole."""
    whole = target.resolve()
    return whole.with_name(f"{whole.name}-evaluation.jsonl")


def _predict(
    plan: _Plan, journal: Journal, progress: Progress, engine: EngineName = "local"
) -> tuple[Precision, list[Prediction]]:
    """The precision of the adapter's base, and the predictions of adapters, base and baselines."""
    rows, recipe = plan.rows, plan.recipe
    partners = shuffled_partners(rows.creatures, recipe.seed)
    predictions: list[Prediction] = []

    def ask(method: str, name: str, load: Callable[..., Any]) -> AnsweringModel:
        folder = plan.adapters[name]
        known = read_centroids(folder) if method != "base" else None
        if known and set(known.answers).isdisjoint(rows.candidates):
            known = None
        loaded = partial(load, folder, recipe.evaluation.quantization, plan.base_of(name))
        names, kernels = recipe.evaluation.names_per_description, best_kernels()
        model = AnsweringModel(method, loaded, recipe.decoding, names, known, kernels)
        control = partners if method == ADAPTER else [[] for _ in rows.test]
        asked = partial(model.answers, journal=journal, progress=progress, engine=engine)
        with memory_errors():
            predictions.extend(model_predictions(method, asked, rows, control, recipe.seed))
        # Two models do not stay in memory at once.
        free_cache()
        return model

    precisions = []
    for name in plan.adapters:
        precisions.append(ask(name, name, _load_merged).precision(journal))
        if name == ADAPTER and "base" in plan.baselines:
            ask("base", name, _load_base)
    return precisions[0], predictions + baseline_predictions(rows, plan.baselines, plan.encoder, progress)


def _load_merged(
    folder: Path, quantization: str, base: str | None
) -> tuple[PeftModel | PreTrainedModel, PreTrainedTokenizerBase, Precision]:
    """An adapter on its base; merged where that is the same to float32's rounding, in four fifths of the time."""
    model, tokenizer, precision = load_adapter(folder, quantization, base)
    merged = (precision.base, precision.compute) == ("none", "float32")
    return merged_model(model) if merged else model, tokenizer, precision


def _load_base(
    folder: Path, quantization: str, base: str | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Precision | None]:
    return *load_without(folder, quantization, base), None


def _encoded(plan: _Plan, base: Mapping[str, Any], progress: Progress) -> list[Prediction]:
    """The predictions of an encoder, of its base with centroids of the same rows, and of the baselines."""
    rows, partners = plan.rows, shuffled_partners(plan.rows.creatures, plan.recipe.seed)
    progress(ADAPTER, 0, len(rows.test))
    with memory_errors():
        found = encoder_predictions(ADAPTER, encoders.open_encoder(plan.adapters[ADAPTER]), rows, partners)
        progress(ADAPTER, len(rows.test), len(rows.test))
        if "base" in plan.baselines and rows.train:
            untrained = encoders.load_encoder(encoders.locate_encoder(base["id"], base["revision"]).path)
            known = encoders.with_centroids(untrained, list(map(description_of, rows.train)), rows.training_answers)
            found += encoder_predictions("base", known, rows, [[]] * len(rows.test))
    return found + baseline_predictions(rows, plan.baselines, plan.encoder, progress)


def _write_results(
    target: Path,
    manifest: dict[str, Any],
    evaluation: dict[str, Any],
    predictions: Sequence[Prediction],
    samples: list[dict[str, Any]],
    templates: Path | None,
    note: Note,
) -> None:
    """Write the folder of an adapter or encoder anew, or a report if there is no `manifest`; the used settings replace
    its training's in the manifest. Cards that somebody edited stay.
    """
    kind = manifest.get("kind", REPORT)
    changed = changed_by_hand(target) if manifest else []
    edited = {name: (target / name).read_bytes() for name in changed if name.endswith(".md")}
    with atomic_folder(target, kind, even_changed=kind != REPORT) as folder:
        if kind != REPORT:
            shutil.copytree(target, folder, dirs_exist_ok=True)
        write_json(folder / EVALUATION, evaluation)
        write_jsonl(folder / SAMPLES, samples)
        write_predictions(folder, predictions)
        facts: dict[str, Any] = {"evaluation_precision": evaluation["precision"]}
        if kind == REPORT:
            cards.draw_plots([], read_evaluation(folder)[0], folder / FIGURES)
        else:
            used = {key: evaluation["settings"][key] for key in ("decoding", "evaluation")}
            facts = {**manifest_facts(manifest), "recipe": manifest["recipe"] | used, **facts}
            facts = cards.with_templates(facts, templates)
            cards.render_model_card(folder, facts, facts.get("repo_id"), templates)
            facts = keep_edited(folder, facts, edited)
            for name in edited:
                note(f"{name} was edited by hand and stays as it is; delete it to have one with these figures.")
        write_manifest(folder, kind, facts)


def _samples(predictions: Sequence[Prediction], rows: EvaluationRows) -> list[dict[str, Any]]:
    """The lines of samples.jsonl; of an encoder those of `test`, where `greedy` is its first answer."""
    own = [prediction for prediction in predictions if prediction.method == ADAPTER]
    named = [prediction for prediction in own if prediction.names]
    shown = rows.shown if named else [one for one in rows.shown if one[0] == "test"]
    sampled = named or own[: len(shown)]
    new = [prediction.names for prediction in predictions if prediction.method == f"{ADAPTER}{NEW_NAMES}"]
    known = [None] * (len(sampled) - len(new))
    return [
        {
            "split": split,
            "id": prediction.id,
            "description": description_of(row),
            "messages": row["messages"][:-1],
            "answer": prediction.answer,
            "greedy": prediction.top[0] if prediction.greedy is None else prediction.greedy,
            "names": prediction.names,
            "new_names": new_names,
            "identified": prediction.top if split == "test" else None,
        }
        for (split, row), prediction, new_names in zip(shown, sampled, [*known, *new], strict=True)
    ]
