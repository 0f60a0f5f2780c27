"""What a model card says about an adapter, part by part, from what the folder's files hold. Knows nothing of templates.

Facts are ready values: escaped text, formatted numbers, booleans. What no file holds is None, and the card says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from toolkit.cards.escape import md_cell, md_text
from toolkit.cards.labels import SOURCES
from toolkit.cards.model.energy import training_energy
from toolkit.cards.model.metadata import license_of, linked, public_name
from toolkit.core.format import duration, number
from toolkit.core.hub_client import DEFAULT_ENDPOINT
from toolkit.core.layout import SPLITS
from toolkit.core.recipe import DecodingSettings, EvaluationSettings, LoraSettings, Section, TrainingSettings
from toolkit.core.results import Evaluation

SECTIONS: dict[str, type[Section]] = {
    "lora": LoraSettings,
    "training": TrainingSettings,
    "decoding": DecodingSettings,
    "evaluation": EvaluationSettings,
}
# Settings that decide a training, shown whatever their value; the others are folded away.
DECISIVE = (
    *("lora.r", "lora.alpha", "lora.dropout", "lora.target_modules", "training.quantization"),
    *("training.learning_rate", "training.scheduler", "training.warmup_steps", "training.batch_size"),
    *("training.max_steps", "training.epochs", "training.max_length", "training.optimizer", "training.weight_decay"),
    *("training.max_grad_norm", "training.keep", "training.early_stopping"),
)
# Longest texts in a card, in characters.
WORD, LINE, DESCRIPTION = 60, 200, 200
SHOWN_FIRST, SHOWN_UNSEEN = 3, 8


def base_facts(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What the adapter stands on: the base's name, licence, revision and size."""
    base = manifest["base"]
    name, link = license_of(base)
    return {
        "name": linked(base["id"], f"{DEFAULT_ENDPOINT}/", manifest),
        "license": md_text(name, LINE) if name and name != "other" else None,
        "license_link": link,
        "revision": md_cell(base["revision"], WORD) if base.get("revision") else None,
        "content": md_cell(base["content"], LINE) if base.get("content") else None,
        "parameters": number(base.get("parameters")),
        "architecture": md_cell(base["architecture"], WORD) if base.get("architecture") else None,
    }


def dataset_facts(manifest: Mapping[str, Any], evaluation: Evaluation | None, language: str) -> dict[str, Any]:
    """What it was trained on and how that was made, and `measured_on` when it was evaluated on other rows."""
    dataset = manifest["dataset"]
    measured = evaluation.dataset if evaluation else None
    other = measured is not None and measured.content != dataset["content"]
    return {
        "name": linked(dataset["id"], f"{DEFAULT_ENDPOINT}/datasets/", manifest),
        "revision": md_cell(dataset["revision"], WORD) if dataset.get("revision") else None,
        "content": md_cell(dataset["content"], LINE),
        "measured_on": md_cell(public_name(measured.id), LINE) if measured and other else None,
        "measured_content": md_cell(measured.content, LINE) if measured and other else None,
        "rows": {split: number(dataset["rows"].get(split) or None) for split in SPLITS},
        "total": number(sum(dataset["rows"].values())),
        "license": md_text(dataset["license"], LINE) if dataset.get("license") else None,
        "sources": [_source(source, language) for source in dataset.get("sources") or ()],
        "written_by_model": "corpus" in (dataset.get("sources") or ()),
    }


def _source(name: str, language: str) -> dict[str, str]:
    return {"name": md_text(name, WORD), "explained": SOURCES[language].get(name, "")}


def training_facts(manifest: Mapping[str, Any], log: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How the training went: steps, losses, precision, time and memory, as far as the files tell."""
    seen, rows = manifest.get("examples_seen"), manifest["dataset"]["rows"].get("train")
    trainable, parameters = manifest.get("trainable_parameters"), manifest["base"].get("parameters")
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
        "hardware": _hardware(manifest.get("hardware")),
        "seconds": duration(manifest["train_seconds"]) if manifest.get("train_seconds") else None,
        "energy": _energy(manifest),
        "memory": f"{manifest['peak_memory_bytes'] / 1e9:.1f} GB" if manifest.get("peak_memory_bytes") else None,
        "first_loss": f"{losses[0]['loss']:.2f}" if len(losses) > 1 else None,
        "last_loss": f"{losses[-1]['loss']:.2f}" if losses else None,
        "validation_loss": f"{validation[-1]['validation_loss']:.2f}" if validation else None,
        "best_validation_loss": f"{best['validation_loss']:.2f}" if best else None,
        "best_step": number(best["step"]) if best else None,
        "last_is_best": best is not None and best is validation[-1],
        "kept_step": number(manifest.get("best_step")),
        "micro_batch": number(manifest.get("micro_batch_size")),
        "checkpointing": manifest.get("gradient_checkpointing"),
    }


def _energy(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    energy = training_energy(manifest.get("hardware"), manifest.get("train_seconds"))
    if energy is None:
        return None
    large = energy.watt_hours >= 1000
    amount = f"{energy.watt_hours / 1000:.2g} kWh" if large else f"{energy.watt_hours:.2g} Wh"
    return {"amount": amount, "watts": number(energy.watts), "cores": energy.cores}


def _hardware(hardware: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not hardware:
        return None
    name = md_cell(hardware["name"], LINE)
    return {"name": name, "cores": number(hardware.get("cores")), "cuda": hardware.get("device") == "cuda"}


def _precision(precision: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not precision:
        return None
    overflowed = md_text(precision["overflowed"], LINE) if precision.get("overflowed") else None
    compute = md_cell(precision["compute"], WORD)
    return {"quantised": precision["base"] == "nf4", "compute": compute, "overflowed": overflowed}


def sample_facts(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The samples of a card, in groups that a rule makes: nobody chose any.

    Returns:
        `first`: the first rows of `test`, or of `unseen` where there is no test. `found`, `near` and `missed`: all rows
        of `test` that have samples, by whether the right name is the likeliest, among the likeliest five, or not.
        `unseen`: the first rows of it.
    """
    test, unseen = ([row for row in samples if row["split"] == split] for split in ("test", "unseen"))
    groups: dict[str, list[dict[str, Any]]] = {"found": [], "near": [], "missed": []}
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
    }


def _sample(row: Mapping[str, Any]) -> dict[str, Any]:
    likeliest = row.get("identified") or ()
    return {
        "description": md_cell(row["description"], DESCRIPTION),
        "answer": md_cell(row["answer"], WORD),
        "greedy": md_cell(row["greedy"], WORD),
        "names": ", ".join(md_cell(name, WORD) for name in row["names"]) or "–",
        "likeliest": _marked(likeliest[0], row["answer"]) if likeliest else None,
        "identified": ", ".join(_marked(name, row["answer"]) for name in likeliest) or "–",
    }


def _marked(name: str, answer: str) -> str:
    return ("✓ " if name == answer else "") + md_cell(name, WORD)


def settings_facts(recipe: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """All settings of a recipe with their defaults: those that decide a training (`decisive`), and the `others`."""
    rows: dict[str, dict[str, Any]] = {}
    for section, kind in SECTIONS.items():
        for key, value in recipe.get(section, {}).items():
            field = kind.model_fields.get(key)
            default = field.get_default(call_default_factory=True) if field and not field.is_required() else None
            if value is None and default is None:
                continue
            name, changed = f"{section}.{key}", value != default
            rows[name] = {"name": md_cell(name), "value": _value(value), "default": _value(default), "changed": changed}
    decisive = [rows[name] for name in DECISIVE if name in rows]
    return {"decisive": decisive, "others": [row for name, row in rows.items() if name not in DECISIVE]}


def _value(value: Any) -> str:
    """A setting as a cell of a table."""
    if isinstance(value, list | tuple):
        return md_cell(", ".join(str(item) for item in value), LINE)
    return md_cell("" if value is None else f"{value:g}" if isinstance(value, float) else str(value), LINE)
