"""Model cards from an adapter folder's files: facts in, `README.md` and `README.ko.md` out. Knows no weights.

The same files give the same bytes, so a card can be made again and compared with the one that lies there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit import __version__
from toolkit.cards.escape import fence, md_text, plain
from toolkit.cards.model.commands import PLACEHOLDER, citation, commands, install, recipe_options
from toolkit.cards.model.commands import usage_snippet as usage_snippet
from toolkit.cards.model.facts import base_facts, dataset_facts, sample_facts, settings_facts, training_facts
from toolkit.cards.model.metadata import front_matter, is_pokemon, model_name
from toolkit.cards.model.plots import draw_figures, told_figures
from toolkit.cards.model.results import test_facts, unseen_facts
from toolkit.cards.page import front_matter as metadata
from toolkit.cards.templates import check_templates, render
from toolkit.core.folder import library_versions, read_json, read_jsonl
from toolkit.core.format import number
from toolkit.core.results import Evaluation, read_evaluation

CARDS = {"README.md": ("en", "model_card.md.jinja"), "README.ko.md": ("ko", "model_card.ko.md.jinja")}
# Differences of one card that are named; the first ones say enough.
NAMED = 5


@dataclass(frozen=True, slots=True)
class Files:
    """What the cards of an adapter folder are made from, beside its manifest."""

    evaluation: Evaluation | None
    other_version: str | None
    log: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    tokens: list[str]


def render_model_card(
    folder: Path, manifest: Mapping[str, Any], repo_id: str | None = None, templates: Path | None = None
) -> None:
    """Draw the figures and write both cards of an adapter folder; everything measured comes from the folder's files.

    Args:
        folder: Holds `training_log.jsonl`, `evaluation.json`, `samples.jsonl` and the tokenizer, as far as they exist.
        manifest: What training knows, as `manifest.json` will hold it.
        repo_id: Where the adapter will be published; without it the cards say `owner/name`.
        templates: A folder of templates that stand in for those of the toolkit with the same names.

    Raises:
        InputError: `evaluation.json` is damaged, the tokenizer can not be read, or a template has a mistake.
    """
    files = _read(folder, manifest)
    texts = _texts(files, manifest, repo_id, templates)
    draw_figures(files.log, files.evaluation, folder / "figures")
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def card_texts(
    folder: Path, manifest: Mapping[str, Any], repo_id: str | None = None, templates: Path | None = None
) -> dict[str, str]:
    """Both cards by their file names, with nothing drawn or written; arguments and errors of `render_model_card`."""
    return _texts(_read(folder, manifest), manifest, repo_id, templates)


def differs(folder: Path, repo_id: str | None = None) -> list[str]:
    """Where the cards of an adapter folder say something else than the files beside them: none, if nobody edited them.

    Cards of another version of the toolkit can not be made again, nor those of templates that are not there: of these,
    the results in the front matter are compared.

    Args:
        folder: A whole adapter folder, downloaded or not.
        repo_id: The repository that it is; by default the one that its manifest names.

    Raises:
        InputError: There is no manifest, or a file is damaged.
    """
    manifest = read_json(folder / "manifest.json")
    files = _read(folder, manifest)
    repo_id = repo_id or manifest.get("repo_id")
    again = manifest.get("toolkit") == __version__ and "card_templates" not in manifest
    expected = _texts(files, manifest, repo_id, None) if again else {}
    if not again:
        return _other_results(folder, front_matter(manifest, files.evaluation, repo_id))
    return [line for name, text in expected.items() for line in _other_lines(folder / name, text)]


def _other_lines(card: Path, expected: str) -> list[str]:
    """The first lines of a card that are not those of its files."""
    if not card.is_file():
        return [f"{card.name}: missing"]
    # Not splitlines(): other characters than line feeds end no line of a card.
    there, made = (text.split("\n") for text in (card.read_text(encoding="utf-8", errors="replace"), expected))
    pairs = enumerate(zip(there, made, strict=False), 1)
    found = [
        f"{card.name}, line {line}: says {plain(says, 80)!r}, its files say {plain(would, 80)!r}"
        for line, (says, would) in pairs
        if says != would
    ]
    if not found and len(there) != len(made):
        return [f"{card.name}: {len(there)} lines, its files make {len(made)}"]
    return found[:NAMED]


def _other_results(folder: Path, expected: str) -> list[str]:
    """Whether a card's metadata state other results than its evaluation holds."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    try:
        stated, made = (metadata(each).get("model-index") for each in (text, f"---\n{expected}\n---\n"))
    except ValueError as error:
        return [f"README.md: {error}"]
    return [] if stated == made else ["README.md: its metadata state other results than evaluation.json"]


def _read(folder: Path, manifest: Mapping[str, Any]) -> Files:
    evaluation, other_version = read_evaluation(folder)
    log, samples = (read_jsonl(folder / name) for name in ("training_log.jsonl", "samples.jsonl"))
    tokens = manifest.get("stop_tokens") or []
    return Files(evaluation, other_version, log, samples, list(tokens))


def _texts(files: Files, manifest: Mapping[str, Any], repo_id: str | None, templates: Path | None) -> dict[str, str]:
    """The cards by their file names."""
    if templates is not None:
        check_templates(templates)
    return {
        name: render(template, card_facts(files, manifest, repo_id, language), templates)
        for name, (language, template) in CARDS.items()
    }


def card_facts(files: Files, manifest: Mapping[str, Any], repo_id: str | None, language: str) -> dict[str, Any]:
    """All that a card says in a language, `en` or `ko`: what a template may show."""
    evaluation = files.evaluation
    return {
        "front_matter": front_matter(manifest, evaluation, repo_id),
        "title": md_text(model_name(manifest, repo_id)),
        "repo_id": md_text(repo_id or PLACEHOLDER, 96),
        "has_repo": repo_id is not None,
        "base": base_facts(manifest),
        "dataset": dataset_facts(manifest, evaluation, language),
        "training": training_facts(manifest, files.log),
        "evaluated": evaluation is not None,
        "other_version": files.other_version,
        "candidates": number(evaluation.candidates) if evaluation else None,
        "evaluation_seed": evaluation.seed if evaluation else None,
        "test": test_facts(evaluation, language) if evaluation else None,
        "unseen": unseen_facts(evaluation.unseen, language) if evaluation else None,
        "samples": sample_facts(files.samples),
        "settings": settings_facts(manifest["recipe"]),
        "figures": {
            name: md_text(told) if told else None for name, told in told_figures(files.log, evaluation).items()
        },
        "libraries": _libraries(manifest),
        "toolkit": md_text(manifest.get("toolkit") or __version__, 40),
        "pokemon": is_pokemon(manifest),
        "request": fence(manifest["request"], "text") if manifest.get("request") else None,
        "request_variants": manifest.get("request_variants") or 1,
        "system": fence(manifest["system"], "text") if manifest.get("system") else None,
        "install": install(manifest),
        "snippet": fence(usage_snippet(manifest, files.samples, files.tokens, repo_id), "python"),
        "reproduce": commands(manifest, repo_id, evaluation.settings.compare if evaluation else ()),
        "recipe_shipped": recipe_options(manifest["recipe"]) is not None,
        "citation": fence(citation(manifest, repo_id), "bibtex"),
    }


def _libraries(manifest: Mapping[str, Any]) -> dict[str, str]:
    versions = manifest.get("training_libraries") or library_versions()
    return {md_text(name, 40): md_text(version, 40) for name, version in versions.items()}
