"""What a model card lets its reader run or copy: the snippet, the commands that make it again, the citation.

Pure, apart from reading a tokenizer that a manifest says nothing of.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from toolkit import __version__
from toolkit.cards.escape import fence, python_literal
from toolkit.cards.labels import METHODS
from toolkit.cards.model.metadata import is_hub_id, model_name, public_name
from toolkit.cards.templates import render
from toolkit.core.recipe import load_recipe, recipe_names

PLACEHOLDER = "owner/name"
EXAMPLE = "A small creature with soft yellow fur and long pointed ears that gives off sparks when it is startled."
# Longer descriptions make no example that a reader can take in.
LONGEST_EXAMPLE = 400
# Sections of a recipe that a command reads, and which of their settings it has an option for.
OPTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "train": {
        "": ("base", "seed"),
        "lora": ("r", "alpha", "dropout"),
        "training": (
            *("learning_rate", "scheduler", "warmup_steps", "max_steps", "epochs", "batch_size", "micro_batch_size"),
            *("gradient_checkpointing", "max_length", "optimizer", "quantization", "save_every", "keep"),
            "early_stopping",
        ),
    },
    "evaluate": {"evaluation": ("max_test", "max_unseen", "names_per_description", "quantization")},
}
# Settings that change no result, or are given in another way.
FREE = ("training.track", "base_revision")


def usage_snippet(
    manifest: Mapping[str, Any], samples: Sequence[Mapping[str, Any]], tokens: Sequence[str], repo_id: str | None
) -> str:
    """Python that names one description, with the prompt of the training and the base held as it was measured."""
    compute, quantised = _loading(manifest)
    short = [sample["description"] for sample in samples[:1] if len(sample["description"]) <= LONGEST_EXAMPLE]
    facts = {
        "repo_id": python_literal(repo_id or PLACEHOLDER),
        "has_repo": repo_id is not None,
        "compute": compute,
        "quantised": quantised,
        "description": python_literal(short[0] if short else EXAMPLE),
        "request": python_literal(manifest["request"]) if manifest.get("request") else None,
        "system": python_literal(manifest["system"]) if manifest.get("system") else None,
        "decoding": manifest["recipe"]["decoding"],
        "stops": ", ".join(python_literal(token) for token in tokens),
    }
    return render("usage.py.jinja", facts).rstrip()


def _loading(manifest: Mapping[str, Any]) -> tuple[str, bool]:
    """How the snippet loads the base: the dtype and whether in 4-bit. As it was measured, else unquantised."""
    measured = manifest.get("evaluation_precision") or {"base": "none", "compute": manifest["precision"]["compute"]}
    return measured["compute"], measured["base"] == "nf4"


def install(manifest: Mapping[str, Any]) -> str:
    """What has to be installed before the snippet runs."""
    return fence("pip install peft transformers torch" + (" bitsandbytes" if _loading(manifest)[1] else ""), "bash")


def commands(manifest: Mapping[str, Any], repo_id: str | None, compare: Sequence[str] = ()) -> str:
    """What makes the adapter again, its data and its base at the same commits.

    Args:
        manifest: The adapter's.
        repo_id: Where it is published.
        compare: What it was measured beside; nothing takes what an evaluation takes by default.
    """
    dataset, base = manifest["dataset"], manifest["base"]
    public = is_hub_id(dataset["id"])
    source = dataset["id"] if public else "DATASET"
    pinned = f" --dataset-revision {shlex.quote(dataset['revision'])}" if public and dataset.get("revision") else ""
    base_pinned = f" --base-revision {shlex.quote(base['revision'])}" if base.get("revision") else ""
    options = recipe_options(manifest["recipe"])
    chosen = options["train"] if options else " --recipe recipe.toml"
    # An evaluation takes the settings of the training unless it is given others.
    measured = (options["evaluate"] if options else "") + _beside(compare)
    lines = [
        *([] if public else ["# DATASET: the dataset folder with the content hash below"]),
        f"pkt train {source} adapter{chosen}{pinned}{base_pinned}",
        f"pkt evaluate adapter {source}{measured}{pinned}",
        *([f"pkt verify {shlex.quote(repo_id)}"] if repo_id else []),
    ]
    return fence("\n".join(lines), "bash")


def _beside(compare: Sequence[str]) -> str:
    """The options of an evaluation that name what the adapter is measured beside, but for folders of one machine."""
    baselines = ",".join(name for name in compare if name in METHODS)
    others = "".join(f" --against {name}" for name in compare if is_hub_id(name))
    return (f" --baselines {baselines}" if baselines else "") + others


def recipe_options(recipe: Mapping[str, Any]) -> dict[str, str] | None:
    """The options of `train` and `evaluate` that give these settings, on top of the shipped recipe of the same name.

    None where no options do: then the settings have to come from a file.
    """
    if recipe["name"] not in recipe_names():
        return None
    given, shipped = (_flat(each) for each in (recipe, load_recipe(recipe["name"]).model_dump(mode="json")))
    changed = {key for key in given if given[key] != shipped.get(key) and key not in FREE}
    # One of these two takes the place of the other.
    changed -= {key for key in ("training.max_steps", "training.epochs") if given.get(key) is None}
    texts = {"train": f" --recipe {recipe['name']}", "evaluate": ""}
    for command, sections in OPTIONS.items():
        for key in (f"{section}.{key}".strip(".") for section, keys in sections.items() for key in keys):
            if key in changed and given[key] is not None:
                section, _, name = key.rpartition(".")
                option = f"{'lora-' if section == 'lora' else ''}{name}".replace("_", "-")
                texts[command] += f" --{option} {shlex.quote(_option(given[key]))}"
                changed.remove(key)
    return None if changed else texts


def _flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a recipe that training and evaluation read, by dotted key."""
    flat = {key: recipe.get(key) for key in ("base", "seed")}
    for section in ("lora", "training", "decoding", "evaluation"):
        flat |= {f"{section}.{key}": value for key, value in (recipe.get(section) or {}).items()}
    return flat


def _option(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def citation(manifest: Mapping[str, Any], repo_id: str | None) -> str:
    """BibTeX that names exactly this adapter. The year is the reader's to add: a card knows no clock."""
    name = re.sub(r"[^\w.+-]+", " ", model_name(manifest, repo_id), flags=re.ASCII).strip() or "adapter"
    address = f"https://huggingface.co/{repo_id if repo_id and is_hub_id(repo_id) else PLACEHOLDER}"
    base = re.sub(r"[^\w./+-]+", " ", public_name(manifest["base"]["id"]), flags=re.ASCII).strip()
    return f"""@misc{{{re.sub("[^a-z0-9]+", "_", name.lower()).strip("_") or "adapter"},
  title = {{{{{name.replace("_", chr(92) + "_")}}}}},
  howpublished = {{\\url{{{address}}}}},
  note = {{LoRA adapter for {base.replace("_", chr(92) + "_")}, made with PokePicker Toolkit {__version__}}}
}}"""
