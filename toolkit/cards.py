"""Model cards from an adapter folder's files: facts in, `README.md` and `README.ko.md` out. Knows no weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from toolkit import __version__, chat, model
from toolkit.card_facts import (
    base_facts,
    dataset_facts,
    sample_facts,
    settings_facts,
    test_facts,
    training_facts,
    unseen_facts,
)
from toolkit.card_metadata import front_matter, is_hub_id, is_pokemon, model_name
from toolkit.escape import fence, md_text, python_literal
from toolkit.folder import library_versions, read_json, read_jsonl
from toolkit.plots import accuracy_plot, loss_plot
from toolkit.recipe import load_recipe, recipe_names
from toolkit.words import number

CARDS = {"README.md": ("en", "model_card.md.jinja"), "README.ko.md": ("ko", "model_card.ko.md.jinja")}
LABELS = {
    "en": {
        "adapter": "this adapter",
        "base": "the base alone",
        "tfidf": "TF-IDF nearest neighbour",
        "chance": "chance",
    },
    "ko": {"adapter": "이 어댑터", "base": "어댑터 없는 베이스", "tfidf": "TF-IDF 최근접 이웃", "chance": "무작위"},
}
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
    tokens = manifest.get("stop_tokens") or stop_tokens(folder)
    for name, (language, template) in CARDS.items():
        facts = _facts(manifest, evaluation, log, samples, tokens, repo_id, language)
        (folder / name).write_text(render(template, {**facts, "figures": figures}), encoding="utf-8")


def render(template: str, facts: Mapping[str, Any]) -> str:
    """A template of `model_cards/` filled with facts; a fact that is not there is an error."""
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string((files("toolkit.model_cards") / template).read_text(encoding="utf-8")).render(facts)


def _drawn(path: Path, draw: Callable[[Path], bool]) -> bool:
    """Whether the figure could be drawn; a figure of an earlier evaluation does not outlive it."""
    path.unlink(missing_ok=True)
    return draw(path)


def _facts(
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
        "base": base_facts(manifest),
        "dataset": dataset_facts(manifest, evaluation),
        "training": training_facts(manifest, log),
        "evaluated": bool(evaluation),
        "candidates": number(evaluation.get("candidates")),
        "evaluation_seed": evaluation.get("seed"),
        "test": test_facts(test, LABELS[language]) if test and test["methods"] else None,
        "unseen": unseen_facts(unseen) if unseen else None,
        "samples": {split: sample_facts(samples, split) for split in ("test", "unseen")},
        "settings": settings_facts(manifest["recipe"]),
        "libraries": manifest.get("training_libraries") or library_versions(),
        "toolkit": manifest.get("toolkit") or __version__,
        "pokemon": is_pokemon(manifest),
        "request": fence(manifest["request"], "text") if manifest.get("request") else None,
        "request_variants": manifest.get("request_variants") or 1,
        "install": _install(manifest),
        "snippet": fence(usage_snippet(manifest, samples, tokens, repo_id), "python"),
        "reproduce": fence(_commands(manifest, repo_id), "bash"),
        "recipe_shipped": _is_shipped(manifest["recipe"]),
    }


# What the reader can run.


def stop_tokens(folder: Path) -> list[str]:
    """The tokens at which an answer ends, from the folder's tokenizer: where a manifest does not name them."""
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
        "system": python_literal(manifest["system"]) if manifest.get("system") else None,
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
