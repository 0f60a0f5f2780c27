"""Model cards from an adapter folder's files: facts in, `README.md` and `README.ko.md` out. Knows nothing of weights.

Facts are ready values: escaped text, formatted numbers, booleans. What no file holds is None, and the card says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined

from toolkit import __version__, chat, model
from toolkit.escape import fence, md_cell, md_text, python_literal
from toolkit.folder import library_versions, read_json, read_jsonl
from toolkit.plots import accuracy_plot, loss_plot, ordered_methods
from toolkit.recipe import (
    DecodingSettings,
    EvaluationSettings,
    LoraSettings,
    Section,
    TrainingSettings,
    load_recipe,
    recipe_names,
)

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

CARDS = {"README.md": ("en", "model_card.md.jinja"), "README.ko.md": ("ko", "model_card.ko.md.jinja")}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
GEMMA = re.compile(r"google/gemma-.+")
GEMMA_TERMS = "https://ai.google.dev/gemma/terms"
POKEMON = re.compile(r"corpus|pokeapi|.*pok[eé]mon.*", re.IGNORECASE)
SECTIONS: dict[str, type[Section]] = {
    "lora": LoraSettings,
    "training": TrainingSettings,
    "decoding": DecodingSettings,
    "evaluation": EvaluationSettings,
}
MEASURES = {"top1": ("accuracy", "Top-1 accuracy"), "top5": ("top_5_accuracy", "Top-5 accuracy"), "mrr": ("mrr", "MRR")}
LABELS = {
    "en": {
        "adapter": "this adapter",
        "base": "the base alone",
        "tfidf": "TF-IDF nearest neighbour",
        "chance": "chance",
    },
    "ko": {"adapter": "이 어댑터", "base": "어댑터 없는 베이스", "tfidf": "TF-IDF 최근접 이웃", "chance": "무작위"},
}
SPLITS = ("train", "validation", "test", "unseen")
SAMPLES_SHOWN = 6
EXAMPLE = "A small creature with soft yellow fur and long pointed ears that gives off sparks when it is startled."


def render_model_card(folder: Path, manifest: Mapping[str, Any], repo_id: str | None = None) -> None:
    """Draw the figures and write both cards of an adapter folder; everything measured comes from the folder's files.

    Args:
        folder: Holds `training_log.jsonl`, `evaluation.json`, `samples.jsonl` and the tokenizer, as far as they exist.
        manifest: What training knows, as `manifest.json` will hold it.
        repo_id: Where the adapter will be published; without it the cards say `owner/name`.

    Raises:
        InputError: `evaluation.json` is damaged, or the tokenizer can not be read.
    """
    evaluation = read_json(folder / "evaluation.json") if (folder / "evaluation.json").is_file() else {}
    log, samples = (read_jsonl(folder / name) for name in ("training_log.jsonl", "samples.jsonl"))
    figures = {
        "loss": _drawn(folder / "figures" / "loss.png", lambda path: loss_plot(log, path)),
        "accuracy": _drawn(folder / "figures" / "accuracy.png", lambda path: accuracy_plot(evaluation, path)),
    }
    tokens = stop_tokens(folder)
    for name, (language, template) in CARDS.items():
        facts = card_facts(manifest, evaluation, log, samples, tokens, repo_id, language)
        (folder / name).write_text(render(template, {**facts, "figures": figures}), encoding="utf-8")


def render(template: str, facts: Mapping[str, Any]) -> str:
    """A template of `model_cards/` filled with facts; a fact that is not there is an error."""
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string((files("toolkit.model_cards") / template).read_text(encoding="utf-8")).render(facts)


def card_facts(
    manifest: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    log: Sequence[Mapping[str, Any]],
    samples: Sequence[Mapping[str, Any]],
    tokens: Sequence[str],
    repo_id: str | None,
    language: str,
) -> dict[str, Any]:
    """All that a card says, apart from its figures, in the given language (`en` or `ko`)."""
    test, unseen = evaluation.get("test"), evaluation.get("unseen")
    return {
        "front_matter": front_matter(manifest, evaluation, repo_id),
        "title": md_text(model_name(manifest, repo_id)),
        "repo_id": repo_id or "owner/name",
        "has_repo": repo_id is not None,
        "base": _base(manifest),
        "dataset": _dataset(manifest, evaluation),
        "training": _training(manifest, log),
        "evaluated": bool(evaluation),
        "candidates": _number(evaluation.get("candidates")),
        "evaluation_seed": evaluation.get("seed"),
        "test": _test(test, LABELS[language]) if test and test["methods"] else None,
        "unseen": _unseen(unseen) if unseen else None,
        "samples": {split: _samples(samples, split) for split in ("test", "unseen")},
        "settings": _settings(manifest["recipe"]),
        "libraries": manifest.get("libraries") or library_versions(),
        "toolkit": manifest.get("toolkit") or __version__,
        "pokemon": is_pokemon(manifest),
        "request": fence(manifest["request"], "text") if manifest.get("request") else None,
        "install": _install(manifest),
        "snippet": fence(usage_snippet(manifest, samples, tokens, repo_id), "python"),
        "reproduce": fence(_commands(manifest, repo_id), "bash"),
        "recipe_shipped": _is_shipped(manifest["recipe"]),
    }


# Metadata.


def front_matter(manifest: Mapping[str, Any], evaluation: Mapping[str, Any], repo_id: str | None) -> str:
    """The card's YAML, without its `---` lines. The base and the dataset appear only when they are Hub ids."""
    # Late, since huggingface_hub reads which Hub to talk to when it is imported.
    from huggingface_hub import ModelCardData

    base, dataset = manifest["base"], manifest["dataset"]
    on_hub = is_hub_id(base["id"])
    name, link = license_of(base)
    data = ModelCardData(
        base_model=base["id"] if on_hub else None,
        base_model_relation="adapter" if on_hub else None,
        library_name="peft",
        pipeline_tag="text-generation",
        license=name,
        license_link=link,
        datasets=[dataset["id"]] if is_hub_id(dataset["id"]) else None,
        language=["ko", "en"],
        tags=_tags(manifest),
        model_name=model_name(manifest, repo_id),
        eval_results=_results(manifest, evaluation) or None,
    )
    return str(data.to_yaml())


def model_name(manifest: Mapping[str, Any], repo_id: str | None) -> str:
    """The repository's own name, or before there is one, the recipe's."""
    return repo_id.partition("/")[2] if repo_id else str(manifest["recipe"]["name"])


def license_of(base: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Licence id and link that pass from a base to its adapter: what its card states, else Gemma's for a Gemma."""
    stated = base.get("license")
    if stated in (None, "other", "gemma") and GEMMA.fullmatch(base["id"]):
        stated = "gemma"
    return stated, GEMMA_TERMS if stated == "gemma" else None


def is_hub_id(name: str) -> bool:
    """Whether a name is `owner/name`, and so no folder of the machine that trained."""
    return HUB_ID.fullmatch(name) is not None


def is_pokemon(manifest: Mapping[str, Any]) -> bool:
    """Whether the names in the dataset are Pokémon's, which are trademarks."""
    dataset = manifest["dataset"]
    named = [dataset["id"], *(dataset.get("sources") or ())]
    return bool(dataset.get("pokemon", any(POKEMON.fullmatch(name) for name in named)))


def _tags(manifest: Mapping[str, Any]) -> list[str]:
    quantised = manifest.get("precision", {}).get("base") == "nf4"
    return ["lora", *(["qlora"] if quantised else []), "naming", *(["pokemon"] if is_pokemon(manifest) else [])]


def _results(manifest: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    scores = ((evaluation.get("test") or {}).get("methods") or {}).get("adapter") or {}
    dataset = manifest["dataset"]
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=_public_name(dataset["id"]),
            dataset_name=_public_name(dataset["id"]),
            dataset_split="test",
            dataset_revision=dataset.get("revision"),
            metric_type=kind,
            metric_name=name,
            metric_value=round(float(scores[measure]["value"]), 4),
        )
        for measure, (kind, name) in MEASURES.items()
        if measure in scores
    ]


# What the folder's files say.


def _base(manifest: Mapping[str, Any]) -> dict[str, Any]:
    base = manifest["base"]
    name, link = license_of(base)
    return {
        "name": _linked(base["id"], "https://huggingface.co/"),
        "license": md_text(name) if name and name != "other" else None,
        "license_link": link,
        "revision": md_cell(base["revision"]) if base.get("revision") else None,
        "content": md_cell(base["content"]) if base.get("content") else None,
        "parameters": _number(base.get("parameters")),
        "architecture": md_cell(base["architecture"]) if base.get("architecture") else None,
    }


def _dataset(manifest: Mapping[str, Any], evaluation: Mapping[str, Any]) -> dict[str, Any]:
    dataset = manifest["dataset"]
    measured_on = evaluation.get("dataset_content")
    return {
        "name": _linked(dataset["id"], "https://huggingface.co/datasets/"),
        "revision": md_cell(dataset["revision"]) if dataset.get("revision") else None,
        "content": md_cell(dataset["content"]),
        "measured_on": md_text(measured_on) if measured_on not in (None, dataset["content"]) else None,
        "rows": {split: _number(dataset["rows"].get(split) or None) for split in SPLITS},
        "license": md_text(dataset["license"]) if dataset.get("license") else None,
        "sources": ", ".join(md_text(source) for source in dataset.get("sources") or ()) or None,
    }


def _training(manifest: Mapping[str, Any], log: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    seen, rows = manifest.get("examples_seen"), manifest["dataset"]["rows"].get("train")
    trainable, parameters = manifest.get("trainable_parameters"), manifest["base"].get("parameters")
    losses, validation = ([row for row in log if row.get(key) is not None] for key in ("loss", "validation_loss"))
    best = min(validation, key=lambda row: float(row["validation_loss"]), default=None)
    return {
        "steps": _number(manifest.get("steps")),
        "examples_seen": _number(seen),
        "epochs": f"{seen / rows:.1f}" if seen and rows else None,
        "trainable": _number(trainable),
        "trainable_share": f"{trainable / parameters:.2%}" if trainable and parameters else None,
        "supervised_tokens": _number(manifest.get("supervised_tokens")),
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
        "best_step": _number(best["step"]) if best else None,
        "last_is_best": best is not None and best is validation[-1],
    }


def _hardware(hardware: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not hardware:
        return None
    return {"name": md_cell(hardware["name"]), "cores": hardware.get("cores"), "cuda": hardware.get("device") == "cuda"}


def _precision(precision: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return {"quantised": precision["base"] == "nf4", "compute": md_cell(precision["compute"])} if precision else None


def _test(test: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    methods = test["methods"]
    return {
        "rows": _number(test["rows"]),
        "methods": [
            {
                "label": labels.get(name, md_cell(name)),
                "is_adapter": name == "adapter",
                **{measure: percent(methods[name].get(measure)) for measure in ("top1", "top5")},
                "mrr": f"{methods[name]['mrr']['value']:.3f}" if "mrr" in methods[name] else None,
                "n": _number((methods[name].get("top1") or {}).get("n")),
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


def _unseen(unseen: Mapping[str, Any]) -> dict[str, Any]:
    shares = {key: percent(unseen.get(key)) for key in ("well_formed", "new", "distinct")}
    return {"rows": _number(unseen["rows"]), "names": _number(unseen["names"]), **shares}


def _samples(samples: Sequence[Mapping[str, Any]], split: str) -> list[dict[str, str]]:
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


def _settings(recipe: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
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


# What the reader can run.


def stop_tokens(folder: Path) -> list[str]:
    """The tokens at which an answer ends, from the folder's tokenizer; empty when the folder has none."""
    if not (folder / "tokenizer_config.json").is_file():
        return []
    tokenizer = model.load_tokenizer(folder)
    return list(tokenizer.convert_ids_to_tokens(chat.end_of_turn_ids(tokenizer)))


def usage_snippet(
    manifest: Mapping[str, Any], samples: Sequence[Mapping[str, Any]], tokens: Sequence[str], repo_id: str | None
) -> str:
    """Python that names one description, with the prompt of the training and the base held as it was measured."""
    compute, quantised = _loading(manifest)
    facts = {
        "repo_id": python_literal(repo_id or "owner/name"),
        "has_repo": repo_id is not None,
        "compute": compute,
        "quantised": quantised,
        "description": python_literal(samples[0]["description"] if samples else EXAMPLE),
        "request": python_literal(manifest["request"]) if manifest.get("request") else None,
        "decoding": manifest["recipe"]["decoding"],
        "stops": ", ".join(python_literal(token) for token in tokens),
    }
    return render("usage.py.jinja", facts).rstrip()


def _loading(manifest: Mapping[str, Any]) -> tuple[str, bool]:
    """How the snippet loads the base: the dtype and whether in 4-bit. As it was measured, else unquantised."""
    measured = manifest.get("evaluation_precision") or {"base": "none", "compute": manifest["precision"]["compute"]}
    return measured["compute"], measured["base"] == "nf4"


def _install(manifest: Mapping[str, Any]) -> str:
    return fence("pip install peft transformers torch" + (" bitsandbytes" if _loading(manifest)[1] else ""), "bash")


def _is_shipped(recipe: Mapping[str, Any]) -> bool:
    return recipe["name"] in recipe_names() and load_recipe(recipe["name"]).model_dump(mode="json") == recipe


def _commands(manifest: Mapping[str, Any], repo_id: str | None) -> str:
    recipe, dataset = manifest["recipe"], manifest["dataset"]["id"]
    public = is_hub_id(dataset)
    source = dataset if public else "DATASET"
    chosen = recipe["name"] if _is_shipped(recipe) else "recipe.toml"
    lines = [
        *([] if public else ["# DATASET: the dataset folder with the content hash above"]),
        f"pkt train {source} adapter --recipe {chosen}",
        f"pkt evaluate adapter {source} --recipe {chosen}",
        *([f"pkt verify {repo_id}"] if repo_id else []),
    ]
    return "\n".join(lines)


# Numbers as they are read.


def percent(score: Mapping[str, Any] | None) -> str | None:
    """A share with its 95 % interval where there is one: `31.0% (24.0–39.0)`."""
    if score is None:
        return None
    if score.get("low") is None:
        return f"{score['value']:.1%}"
    return f"{score['value']:.1%} ({score['low'] * 100:.1f}–{score['high'] * 100:.1f})"


def compared(adapter: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """How two shares relate: `better` or `worse` when their 95 % intervals are apart, else `unclear`."""
    low, high = (adapter.get(key, adapter["value"]) for key in ("low", "high"))
    other_low, other_high = (other.get(key, other["value"]) for key in ("low", "high"))
    relation = "better" if low > other_high else "worse" if high < other_low else "unclear"
    return {"relation": relation, "adapter": f"{adapter['value']:.1%}", "other": f"{other['value']:.1%}"}


def duration(seconds: float) -> str:
    """Seconds as `41 s`, `58 min 16 s` or `2 h 3 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _number(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def _public_name(name: str) -> str:
    """A Hub id as it is; of anything else its last part, so that no path of the machine is published."""
    return name if is_hub_id(name) else re.split(r"[/\\]", name.rstrip("/\\"))[-1]


def _linked(name: str, site: str) -> str:
    public = md_text(_public_name(name))
    return f"[{public}]({site}{name})" if is_hub_id(name) else public


def _drawn(path: Path, draw: Callable[[Path], bool]) -> bool:
    """Whether the figure could be drawn; a figure of an earlier evaluation does not outlive it."""
    path.unlink(missing_ok=True)
    return draw(path)
