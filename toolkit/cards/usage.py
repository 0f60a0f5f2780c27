"""What a card lets its reader run or copy: the snippet, the commands that make the adapter again, the citation."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from toolkit import __version__
from toolkit.cards.escape import fence, plain, python_literal
from toolkit.cards.labels import EXAMPLE, METHODS
from toolkit.cards.metadata import JsonObject, Manifest, is_encoder, model_name, public_name
from toolkit.cards.templates import render
from toolkit.core.hub_client import is_hub_id
from toolkit.core.layout import ANSWERS, DISCOUNT, NAMES_GIVEN, TAKEN_NAMES
from toolkit.core.recipe import load_recipe, option_name, recipe_names, settings_with_options

PLACEHOLDER = "owner/name"
# Characters of the longest description that is shown as an example.
LONGEST_EXAMPLE = 400
# Settings that change no result, or that stand in the manifest's `base`.
FREE = ("training.track", "base_revision", "evaluation.selected_on", "evaluation.selected_among")


def usage_snippet(manifest: Manifest, samples: Sequence[JsonObject], tokens: Sequence[str], repo_id: str | None) -> str:
    """Python that names one description, with the prompt of the training and the base held as it was measured."""
    compute, quantised = _loading(manifest)
    facts = _asked(samples, repo_id) | {
        "compute": compute,
        "quantised": quantised,
        "request": python_literal(manifest["request"]) if manifest.get("request") else None,
        "system": python_literal(manifest["system"]) if manifest.get("system") else None,
        "decoding": manifest["recipe"]["decoding"],
        "stops": ", ".join(map(python_literal, tokens)),
    }
    return render("usage.py.jinja", facts).rstrip()


def new_names_snippet(manifest: Manifest) -> str:
    """Python that goes on from that of `usage_snippet`, and gives names that are none of the dataset's."""
    known = TAKEN_NAMES if manifest.get("taken_names") else ANSWERS
    return render("new_names.py.jinja", {"known": known, "discount": DISCOUNT, "count": NAMES_GIVEN}).rstrip()


def encoder_snippet(samples: Sequence[JsonObject], repo_id: str | None) -> str:
    """Python that identifies one description by a sentence encoder and its centroids."""
    return render("encoder_usage.py.jinja", _asked(samples, repo_id)).rstrip()


def asked_messages(manifest: Manifest, samples: Sequence[JsonObject]) -> list[dict[str, str]]:
    """The conversation that `usage_snippet` sends."""
    content = "\n\n".join(filter(None, (manifest.get("request"), _example(samples))))
    system = [{"role": "system", "content": manifest["system"]}] if manifest.get("system") else []
    return [*system, {"role": "user", "content": content}]


def _example(samples: Sequence[JsonObject]) -> str:
    """The description of the first sample, if it is not too long to show."""
    short = [str(sample["description"]) for sample in samples[:1] if len(sample["description"]) <= LONGEST_EXAMPLE]
    return short[0] if short else EXAMPLE


def _asked(samples: Sequence[JsonObject], repo_id: str | None) -> dict[str, object]:
    """What a snippet asks: a repository, and a description."""
    return {
        "repo_id": python_literal(repo_id or PLACEHOLDER),
        "has_repo": repo_id is not None,
        "description": python_literal(_example(samples)),
    }


def merged_snippet(messages: Sequence[Mapping[str, str]], dtype: str) -> str:
    """Python that sends a conversation to a merged model."""
    turns = ",\n".join(
        f'    {{"role": {python_literal(turn["role"])}, "content": {python_literal(turn["content"])}}}'
        for turn in messages
    )
    return render("merged_usage.py.jinja", {"turns": turns, "dtype": dtype}).rstrip()


def install(manifest: Manifest) -> str:
    """The command that installs what the snippet needs."""
    return fence("pip install peft transformers torch" + (" bitsandbytes" if _loading(manifest)[1] else ""), "bash")


def _loading(manifest: Manifest) -> tuple[str, bool]:
    """The dtype of the snippet's base, and whether it is in 4-bit: as it was measured, else unquantised."""
    measured = manifest.get("evaluation_precision") or {"base": "none", "compute": manifest["precision"]["compute"]}
    return measured["compute"], measured["base"] == "nf4"


def commands(manifest: Manifest, repo_id: str | None, compare: Sequence[str] = ()) -> str:
    """The commands that make the adapter again, from its data and its base at the same commits.

    `compare` are the methods that it was measured beside; none of them if they are the default ones.
    """
    dataset, base = manifest["dataset"], manifest["base"]
    public = is_hub_id(dataset["id"])
    source = dataset["id"] if public else "DATASET"
    pinned = f" --dataset-revision {shlex.quote(dataset['revision'])}" if public and dataset.get("revision") else ""
    base_pinned = f" --base-revision {shlex.quote(base['revision'])}" if base.get("revision") else ""
    options, made = recipe_options(manifest["recipe"]), "encoder" if is_encoder(manifest) else "adapter"
    chosen = options["train"] if options else " --recipe recipe.toml"
    # An evaluation takes the settings of the training unless it is given others.
    measured = (options["evaluate"] if options else "") + _beside(compare)
    lines = [
        *([] if public else ["# DATASET: the dataset folder with the content hash below"]),
        f"pkt train {source} {made}{chosen}{pinned}{base_pinned}",
        f"pkt evaluate {made} {source}{measured}{pinned}",
        *([f"pkt verify {shlex.quote(repo_id)}"] if repo_id else []),
    ]
    return fence("\n".join(lines), "bash")


def _beside(compare: Sequence[str]) -> str:
    """The options that name the methods to compare with, without folders of one machine."""
    baselines = ",".join(name for name in compare if name in METHODS)
    others = "".join(f" --against {name}" for name in compare if is_hub_id(name))
    return (f" --baselines {baselines}" if baselines else "") + others


def recipe_options(recipe: JsonObject) -> dict[str, str] | None:
    """The options of `train` and `evaluate` that give these settings on top of the shipped recipe of the same name.

    None if a setting without an option differs: then the settings have to come from a file.
    """
    if recipe["name"] not in recipe_names():
        return None
    given, shipped = (_flat(each) for each in (recipe, load_recipe(recipe["name"]).model_dump(mode="json")))
    changed = {key for key in given if given[key] != shipped.get(key) and key not in FREE}
    # One of these two takes the place of the other.
    changed -= {key for key in ("training.max_steps", "training.epochs") if given.get(key) is None}
    texts = {"train": f" --recipe {recipe['name']}", "evaluate": ""}
    for command in texts:
        for key in settings_with_options(command):
            if key in changed and given[key] is not None:
                texts[command] += f" {_option(key, given[key])}"
                changed.remove(key)
    return None if changed else texts


def _option(key: str, value: object) -> str:
    name = option_name(key)
    if isinstance(value, bool):
        return name if value else f"--no-{name[2:]}"
    return f"{name} {shlex.quote(f'{value:g}' if isinstance(value, float) else str(value))}"


def _flat(recipe: JsonObject) -> dict[str, Any]:
    """The settings of a recipe that training and evaluation read, by dotted key."""
    flat = {key: recipe.get(key) for key in ("base", "seed")}
    for section in ("lora", "training", "decoding", "evaluation"):
        flat |= {f"{section}.{key}": value for key, value in (recipe.get(section) or {}).items()}
    return flat


def model_citation(manifest: Manifest, repo_id: str | None) -> str:
    """BibTeX of exactly this adapter. The reader adds the year: a card knows no clock."""
    name = re.sub(r"[^\w.+-]+", " ", model_name(manifest, repo_id), flags=re.ASCII).strip() or "adapter"
    address = f"https://huggingface.co/{repo_id if repo_id and is_hub_id(repo_id) else PLACEHOLDER}"
    base = re.sub(r"[^\w./+-]+", " ", public_name(manifest["base"]["id"]), flags=re.ASCII).strip()
    return f"""@misc{{{re.sub("[^a-z0-9]+", "_", name.lower()).strip("_") or "adapter"},
  title = {{{{{name.replace("_", chr(92) + "_")}}}}},
  howpublished = {{\\url{{{address}}}}},
  note = {{LoRA adapter for {base.replace("_", chr(92) + "_")}, made with PokePicker Toolkit {__version__}}}
}}"""


def dataset_citation(facts: Manifest, title: str) -> str:
    """BibTeX of exactly these rows. The reader adds the year: a build knows no clock."""
    recipe = re.sub(r"[\\{}%#$&~^_\s]+", " ", plain(facts["recipe"], 80)).strip()
    accented = title.replace("é", "{\\'e}")
    return f"""@misc{{names_from_descriptions,
  title = {{{{{accented}}}}},
  howpublished = {{\\url{{https://huggingface.co/datasets/OWNER/NAME}}}},
  note = {{Built with PokePicker Toolkit {__version__}, recipe {recipe}, seed {facts["seed"]}; SHA-256 of its rows:
    {facts["content"]}}}
}}"""
