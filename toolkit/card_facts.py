"""What a model card says about an adapter, part by part, from what the folder's files hold. Knows nothing of templates.

Facts are ready values: escaped text, formatted numbers, booleans. What no file holds is None, and the card says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from toolkit.card_metadata import license_of, linked
from toolkit.endpoint import DEFAULT_ENDPOINT
from toolkit.escape import md_cell, md_text
from toolkit.plots import ordered_methods
from toolkit.recipe import DecodingSettings, EvaluationSettings, LoraSettings, Section, TrainingSettings
from toolkit.rows import SPLITS
from toolkit.words import duration, number, percent

SECTIONS: dict[str, type[Section]] = {
    "lora": LoraSettings,
    "training": TrainingSettings,
    "decoding": DecodingSettings,
    "evaluation": EvaluationSettings,
}
SAMPLES_SHOWN = 6


def base_facts(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What the adapter stands on: the base's name, licence, revision and size."""
    base = manifest["base"]
    name, link = license_of(base)
    return {
        "name": linked(base["id"], f"{DEFAULT_ENDPOINT}/", manifest),
        "license": md_text(name) if name and name != "other" else None,
        "license_link": link,
        "revision": md_cell(base["revision"]) if base.get("revision") else None,
        "content": md_cell(base["content"]) if base.get("content") else None,
        "parameters": number(base.get("parameters")),
        "architecture": md_cell(base["architecture"]) if base.get("architecture") else None,
    }


def dataset_facts(manifest: Mapping[str, Any], evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """What it was trained on, and `measured_on` when it was evaluated on other rows."""
    dataset = manifest["dataset"]
    measured_on = evaluation.get("dataset_content")
    return {
        "name": linked(dataset["id"], f"{DEFAULT_ENDPOINT}/datasets/", manifest),
        "revision": md_cell(dataset["revision"]) if dataset.get("revision") else None,
        "content": md_cell(dataset["content"]),
        "measured_on": md_text(measured_on) if measured_on not in (None, dataset["content"]) else None,
        "rows": {split: number(dataset["rows"].get(split) or None) for split in SPLITS},
        "license": md_text(dataset["license"]) if dataset.get("license") else None,
        "sources": ", ".join(md_text(source) for source in dataset.get("sources") or ()) or None,
    }


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
        "memory": f"{manifest['peak_memory_bytes'] / 1e9:.1f} GB" if manifest.get("peak_memory_bytes") else None,
        "first_loss": f"{losses[0]['loss']:.2f}" if len(losses) > 1 else None,
        "last_loss": f"{losses[-1]['loss']:.2f}" if losses else None,
        "validation_loss": f"{validation[-1]['validation_loss']:.2f}" if validation else None,
        "best_validation_loss": f"{best['validation_loss']:.2f}" if best else None,
        "best_step": number(best["step"]) if best else None,
        "last_is_best": best is not None and best is validation[-1],
    }


def _hardware(hardware: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not hardware:
        return None
    return {"name": md_cell(hardware["name"]), "cores": hardware.get("cores"), "cuda": hardware.get("device") == "cuda"}


def _precision(precision: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return {"quantised": precision["base"] == "nf4", "compute": md_cell(precision["compute"])} if precision else None


def test_facts(test: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    """Each method's figures on `test` under its label, and how the adapter compares with the others."""
    methods = test["methods"]
    return {
        "rows": number(test["rows"]),
        "methods": [
            {
                "label": labels.get(name, md_cell(name)),
                "is_adapter": name == "adapter",
                **{measure: percent(methods[name].get(measure)) for measure in ("top1", "top5")},
                "mrr": f"{methods[name]['mrr']['value']:.3f}" if "mrr" in methods[name] else None,
                "n": number((methods[name].get("top1") or {}).get("n")),
            }
            for name in ordered_methods(methods)
        ],
        "compared": {
            name: compared(methods["adapter"]["top1"], methods[name]["top1"])
            if "adapter" in methods and name in methods
            else None
            for name in ("base", "tfidf", "chance")
        },
    }


def unseen_facts(unseen: Mapping[str, Any]) -> dict[str, Any]:
    """What the names for creatures never seen are like."""
    shares = {key: percent(unseen.get(key)) for key in ("well_formed", "new", "distinct")}
    return {"rows": number(unseen["rows"]), "names": number(unseen["names"]), **shares}


def sample_facts(samples: Sequence[Mapping[str, Any]], split: str) -> list[dict[str, str]]:
    """The first samples of a split as cells of a table."""
    return [
        {
            "description": md_cell(row["description"], 140),
            "answer": md_cell(row["answer"], 60),
            "greedy": md_cell(row["greedy"], 60),
            "names": ", ".join(md_cell(name, 60) for name in row["names"]) or "–",
            "identified": ", ".join(_marked(name, row["answer"]) for name in row.get("identified") or ()) or "–",
        }
        for row in [row for row in samples if row["split"] == split][:SAMPLES_SHOWN]
    ]


def _marked(name: str, answer: str) -> str:
    return ("✓ " if name == answer else "") + md_cell(name, 60)


def settings_facts(recipe: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Settings apart from their defaults (`changed`), and the others (`default`)."""
    sorted_out: dict[str, list[dict[str, str]]] = {"changed": [], "default": []}
    for section, kind in SECTIONS.items():
        for key, value in recipe.get(section, {}).items():
            field = kind.model_fields.get(key)
            default = field.get_default(call_default_factory=True) if field else None
            if value is None and default is None:
                continue
            row = {"name": md_cell(f"{section}.{key}"), "value": _value(value), "default": _value(default)}
            sorted_out["default" if value == default else "changed"].append(row)
    return sorted_out


def _value(value: Any) -> str:
    """A setting as a cell of a table."""
    if isinstance(value, list | tuple):
        return md_cell(", ".join(str(item) for item in value))
    return md_cell("" if value is None else f"{value:g}" if isinstance(value, float) else str(value))


def compared(adapter: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """How two shares relate: `better` or `worse` when their 95 % intervals are apart, else `unclear`."""
    low, high = (adapter.get(key, adapter["value"]) for key in ("low", "high"))
    other_low, other_high = (other.get(key, other["value"]) for key in ("low", "high"))
    relation = "better" if low > other_high else "worse" if high < other_low else "unclear"
    return {"relation": relation, "adapter": f"{adapter['value']:.1%}", "other": f"{other['value']:.1%}"}
