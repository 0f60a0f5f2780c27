"""What a model card says, part by part: manifest, log, evaluation and samples in, values for the templates out.

Values are ready: escaped text, formatted numbers, booleans. What no file holds is None, and the card says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from toolkit.cards.escape import md_cell, md_text
from toolkit.cards.labels import CHEAP, EXPLAINED, GROUPS, INVENTION, LABELS, METHODS, SOURCES, ordered_methods
from toolkit.cards.metadata import JsonObject, Manifest, license_of, linked, public_name
from toolkit.core import duration, number
from toolkit.core.layout import BY_LIKELIHOOD, NEW_NAMES, SPLITS
from toolkit.core.recipe import (
    DecodingSettings,
    EvaluationSettings,
    LoraSettings,
    Section,
    TrainingSettings,
    switched_off,
)
from toolkit.core.results import Calibration, Evaluation, Invention, Score, TestSplit, Unseen, format_estimate

Facts = dict[str, object]

SECTIONS: dict[str, type[Section]] = {
    "lora": LoraSettings,
    "training": TrainingSettings,
    "decoding": DecodingSettings,
    "evaluation": EvaluationSettings,
}
# Settings that decide a training, always shown; the others are folded away.
DECISIVE = (
    *("lora.r", "lora.alpha", "lora.dropout", "lora.target_modules", "lora.use_rslora", "lora.use_dora"),
    *("lora.modules_to_save", "training.quantization"),
    *("training.learning_rate", "training.scheduler", "training.warmup_steps", "training.batch_size"),
    *("training.max_steps", "training.epochs", "training.max_length", "training.optimizer", "training.weight_decay"),
    *("training.max_grad_norm", "training.keep", "training.early_stopping"),
    *("training.augmentation", "training.clause_dropout", "training.word_dropout"),
    *("training.contrast", "training.way_back"),
)
# Longest texts in a card, in characters.
WORD, LINE, DESCRIPTION, METHOD = 60, 200, 200, 48
SHOWN_FIRST, SHOWN_UNSEEN = 3, 8


def base_facts(manifest: Manifest) -> Facts:
    """The base: name, licence, revision and size."""
    base = manifest["base"]
    name, link = license_of(base)
    return {
        "name": linked(base["id"], manifest),
        "license": md_text(name, LINE) if name and name != "other" else None,
        "license_link": link,
        "revision": md_cell(base["revision"], WORD) if base.get("revision") else None,
        "content": md_cell(base["content"], LINE) if base.get("content") else None,
        "parameters": number(base.get("parameters")),
        "architecture": md_cell(base["architecture"], WORD) if base.get("architecture") else None,
    }


def dataset_facts(manifest: Manifest, evaluation: Evaluation | None, language: str) -> Facts:
    """The dataset of the training and its sources, and `measured_on` when the evaluation was on other rows."""
    dataset = manifest["dataset"]
    measured = evaluation.dataset if evaluation else None
    other = measured is not None and measured.content != dataset["content"]
    return {
        "name": linked(dataset["id"], manifest, "datasets/"),
        "revision": md_cell(dataset["revision"], WORD) if dataset.get("revision") else None,
        "content": md_cell(dataset["content"], LINE),
        "measured_on": md_cell(public_name(measured.id), LINE) if measured and other else None,
        "measured_content": md_cell(measured.content, LINE) if measured and other else None,
        "rows": {split: number(dataset["rows"].get(split) or None) for split in SPLITS},
        "total": number(sum(dataset["rows"].values())),
        "license": md_text(dataset["license"], LINE) if dataset.get("license") else None,
        "sources": [
            {"name": md_text(source, WORD), "explained": SOURCES[language].get(source, "")}
            for source in dataset.get("sources") or ()
        ],
        "written_by_model": "corpus" in (dataset.get("sources") or ()),
    }


def training_facts(manifest: Manifest, log: Sequence[JsonObject]) -> Facts:
    """The course of the training: steps, losses, precision, time, memory and energy, as far as the files tell."""
    seen, rows = manifest.get("examples_seen"), manifest["dataset"]["rows"].get("train")
    trainable, parameters = manifest.get("trainable_parameters"), manifest["base"].get("parameters")
    settings = (manifest.get("recipe") or {}).get("training", {})
    losses, validation = ([row for row in log if row.get(key) is not None] for key in ("loss", "validation_loss"))
    best = min(validation, key=lambda row: float(row["validation_loss"]), default=None)
    return {
        "steps": number(manifest.get("steps")),
        "examples_seen": number(seen),
        "epochs": f"{seen / rows:.1f}" if seen and rows else None,
        "trainable": number(trainable),
        "trainable_share": f"{trainable / parameters:.2%}" if trainable and parameters else None,
        "supervised_tokens": number(manifest.get("supervised_tokens")),
        "seed": manifest.get("seed"),
        "precision": _precision(manifest.get("precision")),
        "evaluation_precision": _precision(manifest.get("evaluation_precision")),
        "hardware": {"name": md_cell(hardware["name"], LINE), "cores": number(hardware.get("cores"))}
        if (hardware := manifest.get("hardware"))
        else None,
        "seconds": duration(manifest["train_seconds"]) if manifest.get("train_seconds") else None,
        "energy": _energy(manifest.get("energy_joules")),
        "memory": f"{manifest['peak_memory_bytes'] / 1e9:.1f} GB" if manifest.get("peak_memory_bytes") else None,
        "first_loss": f"{losses[0]['loss']:.2f}" if len(losses) > 1 else None,
        "last_loss": f"{losses[-1]['loss']:.2f}" if losses else None,
        "way_back_loss": f"{losses[-1]['way_back_loss']:.2f}" if losses and "way_back_loss" in losses[-1] else None,
        "validation_loss": f"{validation[-1]['validation_loss']:.2f}" if validation else None,
        "best_validation_loss": f"{best['validation_loss']:.2f}" if best else None,
        "best_step": number(best["step"]) if best else None,
        "last_is_best": best is not None and best is validation[-1],
        "kept_step": number(manifest.get("best_step")),
        "augmentation": _share(settings.get("augmentation")),
        "clauses_left_out": _share(settings.get("clause_dropout")),
        "words_left_out": _share(settings.get("word_dropout")),
        **{key: f"{settings[key]:g}" if settings.get(key) else None for key in ("contrast", "way_back")},
        "micro_batch": number(manifest.get("micro_batch_size")),
        "checkpointing": manifest.get("gradient_checkpointing"),
    }


def _share(value: float | None) -> str | None:
    return f"{value:.0%}" if value else None


def _energy(joules: float | None) -> str | None:
    if joules is None:
        return None
    amount, unit = (joules / 3.6e6, "kWh") if joules >= 3.6e6 else (joules / 3600, "Wh")
    return f"{amount:.2g} {unit}" if amount < 10 else f"{amount:,.0f} {unit}"


def _precision(precision: JsonObject | None) -> Facts | None:
    if not precision:
        return None
    overflowed = md_text(precision["overflowed"], LINE) if precision.get("overflowed") else None
    compute = md_cell(precision["compute"], WORD)
    quantised = None if precision["base"] == "none" else md_cell(precision["base"].upper(), WORD)
    return {"quantised": quantised, "compute": compute, "overflowed": overflowed}


def sample_facts(samples: Sequence[JsonObject]) -> Facts:
    """The samples of a card, grouped by a rule; none is hand-picked.

    Returns:
        `first`: the first rows of `test`, or of `unseen` without a test. `found`, `near` and `missed`: all rows of
        `test` that have samples, by whether the right name is the likeliest, among the likeliest five, or not.
        `unseen`: its first rows.
    """
    test, unseen = ([row for row in samples if row["split"] == split] for split in ("test", "unseen"))
    groups: dict[str, list[Facts]] = {"found": [], "near": [], "missed": []}
    for row in test:
        likeliest = row.get("identified") or [None]
        group = "found" if likeliest[0] == row["answer"] else "near" if row["answer"] in likeliest else "missed"
        groups[group].append(_sample(row))
    return {
        "first": [_sample(row) for row in (test or unseen)[:SHOWN_FIRST]],
        "first_split": "test" if test else "unseen",
        "test_rows": number(len(test)),
        **groups,
        "unseen": [_sample(row) for row in unseen[:SHOWN_UNSEEN]],
        "unseen_rows": number(len(unseen)),
        "new_names": any(row.get("new_names") for row in unseen),
    }


def _sample(row: JsonObject) -> Facts:
    likeliest = row.get("identified") or ()
    return {
        "description": md_cell(row["description"], DESCRIPTION),
        "answer": md_cell(row["answer"], WORD),
        "greedy": md_cell(row["greedy"], WORD),
        "names": ", ".join(md_cell(name, WORD) for name in row["names"]) or "–",
        "new_names": ", ".join(md_cell(name, WORD) for name in row.get("new_names") or ()) or "–",
        "likeliest": _marked(likeliest[0], row["answer"]) if likeliest else None,
        "identified": ", ".join(_marked(name, row["answer"]) for name in likeliest) or "–",
    }


def _marked(name: str, answer: str) -> str:
    return ("✓ " if name == answer else "") + md_cell(name, WORD)


def settings_facts(recipe: JsonObject) -> dict[str, list[Facts]]:
    """All settings of a recipe with their defaults: those that decide a training (`decisive`), and the `others`."""
    rows: dict[str, Facts] = {}
    off = switched_off(recipe.get("training", {}))
    for section, kind in SECTIONS.items():
        for key, value in recipe.get(section, {}).items():
            if section == "training" and key in off:
                continue
            field = kind.model_fields.get(key)
            default = field.get_default(call_default_factory=True) if field and not field.is_required() else None
            # What is not there, and a switch that is off as it is by default, says nothing.
            if value == default and (value is None or value is False):
                continue
            name, changed = f"{section}.{key}", value != default
            rows[name] = {"name": md_cell(name), "value": _value(value), "default": _value(default), "changed": changed}
    decisive = [rows[name] for name in DECISIVE if name in rows]
    return {"decisive": decisive, "others": [row for name, row in rows.items() if name not in DECISIVE]}


def _value(value: object) -> str:
    """A setting as a cell of a table."""
    if isinstance(value, list | tuple):
        return md_cell(", ".join(str(item) for item in value), LINE)
    return md_cell("" if value is None else f"{value:g}" if isinstance(value, float) else str(value), LINE)


def identification_facts(test: TestSplit | None, language: str, own: Mapping[str, str] | None = None) -> Facts | None:
    """The figures of `test`: a row for each method, a verdict on each comparison, the control, and the folded parts.

    `own` are labels of methods in place of those of an adapter's card.
    """
    if test is None or not test.methods:
        return None
    methods = measured_methods(test)
    others = (name for name in methods if name not in ("adapter", "shuffled"))
    labels = {**LABELS[language], **(own or {})}
    verdicts = [verdict for name in others if (verdict := _verdict(name, test, labels, language))]
    total = sum(one.rows for one in test.places)
    return {
        "rows": number(test.rows),
        "creatures": number(test.creatures),
        "by_centroids": f"adapter{BY_LIKELIHOOD}" in methods,
        "has_exact": any("exact" in figures for figures in test.methods.values()),
        "methods": [_method(name, figures, test, labels) for name, figures in methods.items()],
        "verdicts": verdicts,
        "cheaper_wins": any(verdict["cheap"] and verdict["relation"] == "worse" for verdict in verdicts),
        "control": _control(test),
        "groups": _groups(test, language),
        "places": [
            {"label": one.label, "rows": one.counted, "share": f"{one.rows / total:.1%}" if total else None}
            for one in test.places
        ],
        "confusions": [
            {"answer": md_cell(one.answer, 60), "said": md_cell(one.said, 60), "rows": number(one.rows)}
            for one in test.confusions
            if test.confusions[0].rows > 1
        ],
        "calibration": _calibration(test.calibration) if test.calibration else None,
    }


def measured_methods(test: TestSplit) -> dict[str, dict[str, Score]]:
    """The figures of each method, in the order of a card, the shuffled control under the adapter."""
    methods: dict[str, dict[str, Score]] = {}
    for name in ordered_methods(test.methods):
        methods[name] = test.methods[name]
        if name == "adapter" and test.shuffled is not None:
            methods["shuffled"] = test.shuffled.figures
    return methods


def _label(name: str, labels: Mapping[str, str]) -> str:
    return labels.get(name) or md_cell(public_name(name), METHOD)


def _method(name: str, figures: Mapping[str, Score], test: TestSplit, labels: Mapping[str, str]) -> Facts:
    return {
        "label": _label(name, labels),
        "is_adapter": name == "adapter",
        **{measure: format_estimate(figures.get(measure)) for measure in ("top1", "top5", "exact")},
        "mrr": f"{figures['mrr'].value:.3f}" if "mrr" in figures else None,
        "difference": format_estimate(_difference(name, test), "points"),
    }


def _difference(name: str, test: TestSplit) -> Score | None:
    """Top-1 of the adapter minus that of another method, over the same rows."""
    if name == "shuffled":
        return test.shuffled.difference.get("top1") if test.shuffled else None
    return test.differences.get(name, {}).get("top1")


def _verdict(name: str, test: TestSplit, labels: Mapping[str, str], language: str) -> Facts | None:
    """The comparison of the adapter with another method; None if one of them has no top-1."""
    adapter, other = test.methods.get("adapter", {}).get("top1"), test.methods[name].get("top1")
    if adapter is None or other is None:
        return None
    return {
        "name": name if name in METHODS else "other",
        "label": _label(name, labels),
        "explained": EXPLAINED[language].get(name),
        "cheap": name in CHEAP,
        "relation": _relation(_difference(name, test), adapter, other),
        "adapter": f"{adapter.value:.1%}",
        "other": f"{other.value:.1%}",
    }


def _relation(difference: Score | None, adapter: Score, other: Score) -> str:
    """`better` or `worse` if the interval of the difference excludes 0, else `unclear`.

    Without a difference of the same rows, the two intervals have to be apart; a value without interval is exact.
    """
    if difference is None:
        low, high = adapter.ends[0] - other.ends[1], adapter.ends[1] - other.ends[0]
    else:
        low, high = difference.interval or (0, 0)
    return "better" if low > 0 else "worse" if high < 0 else "unclear"


def _control(test: TestSplit) -> Facts | None:
    """Whether the adapter reads the description: its MRR with the right descriptions and with shuffled ones."""
    shuffled, adapter = test.shuffled, test.methods.get("adapter", {}).get("mrr")
    if shuffled is None:
        return None
    return {
        "reads": shuffled.reads,
        "adapter": f"{adapter.value:.3f}" if adapter else None,
        "shuffled": format_estimate(shuffled.figures.get("mrr"), "plain"),
        "difference": format_estimate(shuffled.difference.get("mrr"), "plain"),
    }


def _groups(test: TestSplit, language: str) -> list[Facts]:
    return [
        {
            "kind": GROUPS[language].get(kind) or md_cell(kind, METHOD),
            "rows": [
                {
                    "label": md_cell(label, METHOD),
                    "n": number((figures.get("top1") or Score(value=0)).n),
                    **{measure: format_estimate(figures.get(measure)) for measure in ("top1", "top5")},
                }
                for label, figures in groups.items()
            ],
        }
        for kind, groups in test.groups.items()
        if groups
    ]


def _calibration(calibration: Calibration) -> Facts:
    return {
        "error": f"{calibration.error:.3f}",
        "brier": f"{calibration.brier:.3f}",
        "bins": [
            {
                "range": f"{one.low:.0%}–{one.high:.0%}",
                "rows": number(one.rows),
                "confidence": None if one.confidence is None else f"{one.confidence:.1%}",
                "accuracy": None if one.accuracy is None else f"{one.accuracy:.1%}",
            }
            for one in calibration.bins
            if one.rows
        ],
    }


def selection_facts(recipe: JsonObject) -> Facts | None:
    """The rows by whose figures the settings of a recipe were chosen, as far as it says so."""
    settings = recipe.get("evaluation", {})
    chosen, among = settings.get("selected_on") or (), settings.get("selected_among")
    final = {"test", "unseen"}.isdisjoint(chosen)
    return {"on": _value(chosen), "final": final, "among": number(among)} if chosen else None


def unseen_facts(unseen: Unseen | None, language: str) -> Facts | None:
    """The names for creatures never seen: a row for each measure, a column for each method."""
    if unseen is None or not unseen.methods:
        return None
    order, new = ordered_methods(unseen.methods), f"adapter{NEW_NAMES}"
    halves = [unseen.halves[half][new] for half in ("tuning", "final") if new in unseen.halves.get(half, ())]
    there = {key for method in unseen.methods.values() for key in method.figures}
    labels = INVENTION[language]
    keys = [*(key for key in labels if key in there), *sorted(there - set(labels))]

    def rows(columns: Sequence[Invention]) -> list[Facts]:
        return [
            {
                "label": labels.get(key) or md_cell(key, METHOD),
                "values": [
                    format_estimate(column.figures.get(key), "share" if key in labels else "plain")
                    for column in columns
                ],
            }
            for key in keys
        ]

    return {
        "rows": number(unseen.rows),
        "names": number(unseen.methods[order[0]].names),
        "methods": [_label(name, LABELS[language]) for name in order],
        "new_names": new in unseen.methods,
        "fits": "fits" in there,
        "figures": rows([unseen.methods[name] for name in order]),
        "halves": rows(halves) if len(halves) == 2 else None,
    }
