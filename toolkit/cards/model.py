"""Cards of an adapter (English and Korean), a merged model and an imported base: a folder's files in, `README.md` out.

The same files give the same bytes, so a card can be made again and compared with the one in the folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit import __version__
from toolkit.cards import metadata, model_facts, usage, vllm
from toolkit.cards.escape import fence, md_cell, md_text, plain
from toolkit.cards.metadata import Manifest, is_pokemon, linked
from toolkit.cards.model_facts import Facts
from toolkit.cards.model_plots import draw_plots, plots_in_words
from toolkit.cards.page import front_matter
from toolkit.cards.templates import check_templates, render
from toolkit.core import number, size
from toolkit.core.folder import read_json, read_jsonl
from toolkit.core.layout import CARD, EVAL_RESULTS, FIGURES, KOREAN_CARD, MANIFEST, SAMPLES, TRAINING_LOG
from toolkit.core.recipe import ENCODER_TRAINING
from toolkit.core.results import Evaluation, read_evaluation

TEMPLATES = {CARD: ("en", "model_card.md.jinja"), KOREAN_CARD: ("ko", "model_card.ko.md.jinja")}
ENCODER_TEMPLATES = {CARD: ("en", "encoder_card.md.jinja")}
MERGED_TEMPLATE, GGUF_TEMPLATE, BASE_TEMPLATE = "merged_card.md.jinja", "gguf_card.md.jinja", "base_card.md.jinja"
# Differences of one card that are named, and differences and the longest name in a merged model's card.
NAMED, SHOWN, NAME = 5, 10, 60


@dataclass(frozen=True, slots=True)
class Files:
    """What a folder's cards are made from; `other_version`: who measured it, an `older` or a `newer` toolkit."""

    evaluation: Evaluation | None
    other_version: str | None
    log: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    folder: Path


def render_model_card(
    folder: Path,
    manifest: Manifest,
    repo_id: str | None = None,
    templates: Path | None = None,
    *,
    plots: bool = True,
) -> None:
    """Draw the plots and write both cards of an adapter folder; everything measured comes from the folder's files.

    Args:
        folder: Holds `training_log.jsonl`, `evaluation.json` and `samples.jsonl`, as far as they exist.
        manifest: As `manifest.json` will hold it.
        repo_id: Where the adapter will be published; without it the cards say `owner/name`.
        templates: A folder of templates that replace those of the toolkit with the same names.
        plots: Whether to draw them; not where the folder holds those of the same files.

    Raises:
        InputError: `evaluation.json` is damaged, or a template has a mistake.
    """
    texts = card_texts(folder, manifest, repo_id, templates)
    if plots:
        draw_plots(read_jsonl(folder / TRAINING_LOG), read_evaluation(folder)[0], folder / FIGURES)
    # A result that no longer follows from the evaluation goes.
    (folder / EVAL_RESULTS).unlink(missing_ok=True)
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def card_texts(
    folder: Path, manifest: Manifest, repo_id: str | None = None, templates: Path | None = None
) -> dict[str, str]:
    """Both cards and the result of a benchmark, by their file names; arguments and errors of `render_model_card`."""
    if templates is not None:
        check_templates(templates)
    files = Files(*read_evaluation(folder), read_jsonl(folder / TRAINING_LOG), read_jsonl(folder / SAMPLES), folder)
    own = metadata.is_encoder(manifest)
    facts, wanted = (_encoder_facts, ENCODER_TEMPLATES) if own else (_card_facts, TEMPLATES)
    texts = {
        name: render(template, facts(files, manifest, repo_id, language), templates)
        for name, (language, template) in wanted.items()
    }
    result = metadata.benchmark_result(manifest, files.evaluation)
    return texts | ({EVAL_RESULTS: result} if result else {})


def card_differences(folder: Path, repo_id: str | None = None) -> list[str]:
    """Where the cards of an adapter folder differ from what its files say: nowhere, if nobody edited them.

    The cards of another version of the toolkit, or of a user's templates, cannot be made again: of these, the results
    in the front matter are compared. `repo_id` is by default the one in the manifest.

    Raises:
        InputError: There is no manifest, or a file is damaged.
    """
    manifest = read_json(folder / MANIFEST)
    repo_id = repo_id or manifest.get("repo_id")
    if manifest.get("toolkit") != __version__ or "card_templates" in manifest:
        made = metadata.model_front_matter(manifest, read_evaluation(folder)[0], repo_id)
        return _other_results(folder / CARD, made)
    expected = card_texts(folder, manifest, repo_id)
    return [line for name, text in expected.items() for line in _other_lines(folder / name, text)]


def render_merged_card(folder: Path, manifest: Manifest, messages: Sequence[Mapping[str, str]]) -> None:
    """Write `README.md` of a merged model from what its `manifest.json` will say; its snippet sends `messages`."""
    check, name, base = manifest["check"], str(manifest["adapter"]["id"]), manifest["base"]
    differences = [
        {key: md_cell(one[key], NAME) for key in ("id", "adapter", "merged")} for one in check["differences"]
    ]
    facts = {
        "front_matter": metadata.merged_front_matter(manifest),
        "title": md_text(f"{name.rpartition('/')[2]}, merged", NAME),
        "adapter": linked(name, manifest),
        "weights": manifest["adapter"]["weights"],
        "base": linked(base["id"], manifest),
        "revision": md_cell(base["revision"], NAME) if base["revision"] else None,
        "dtype": manifest["dtype"],
        # Of an adapter of another trainer nobody knows what it was made for.
        "naming": manifest["recipe"] is not None,
        "samples": check["samples"],
        "same": check["samples"] - len(differences),
        "differences": differences[:SHOWN],
        "more": max(0, len(differences) - SHOWN),
        "snippet": fence(usage.merged_snippet(messages, manifest["dtype"]), "python"),
    }
    (folder / CARD).write_text(render(MERGED_TEMPLATE, facts), encoding="utf-8")


def render_gguf_card(folder: Path, manifest: Manifest, messages: Sequence[Mapping[str, str]]) -> None:
    """Write `README.md` of a GGUF file from what its `manifest.json` will say; its request sends `messages`."""
    check, base, name = manifest.get("check"), manifest["base"], str(manifest["adapter"]["id"])
    found = check["differences"] if check else []
    differences = [{key: md_cell(one[key], NAME) for key in ("id", "adapter", "exported")} for one in found]
    body = json.dumps({"messages": list(messages)}, ensure_ascii=False, indent=1)
    loaded = f"-m base.gguf --lora {manifest['file']}" if manifest["lora"] else f"-m {manifest['file']}"
    facts = {
        "front_matter": metadata.gguf_front_matter(manifest),
        "title": md_text(manifest["file"].removesuffix(".gguf"), NAME),
        "adapter": linked(name, manifest),
        "weights": manifest["adapter"]["weights"],
        "base": linked(base["id"], manifest),
        "revision": md_cell(base["revision"], NAME) if base["revision"] else None,
        "naming": manifest["recipe"] is not None,
        "lora": manifest["lora"],
        "file": manifest["file"],
        "type": manifest["type"],
        "size": size(manifest["bytes"]),
        "request": fence(manifest["request"], "text") if manifest["request"] else None,
        "serve": fence(f"llama-server {loaded} --port 8080", "bash"),
        "ask": fence(f"curl -s localhost:8080/v1/chat/completions --json @- <<'END'\n{body}\nEND", "bash"),
        "ollama": fence("ollama create names -f Modelfile\nollama run names 'A small red fox with six tails.'", "bash"),
        "check": check and {**check, "same": check["samples"] - len(differences)},
        "differences": differences[:SHOWN],
        "more": max(0, len(differences) - SHOWN),
    }
    (folder / CARD).write_text(render(GGUF_TEMPLATE, facts), encoding="utf-8")


def render_base_card(folder: Path, manifest: Manifest) -> None:
    """Write `README.md` of a base that was read from a GGUF file, from what its `manifest.json` will say."""
    gguf, check = manifest["gguf"], manifest["check"]
    facts = {
        "front_matter": metadata.base_front_matter(manifest),
        "id": md_text(manifest["id"]),
        "title": md_text(manifest["id"].rpartition("/")[2], NAME),
        "file": md_cell(gguf["file"], metadata.LONGEST),
        "sha256": gguf["sha256"],
        "name": md_cell(gguf["name"], metadata.LONGEST),
        "kind": gguf["types"][0],
        "kinds": ", ".join(gguf["types"]),
        "quantised": gguf["quantised"],
        "license": md_cell(manifest["license"], NAME) if manifest["license"] else None,
        "architecture": manifest["architecture"],
        "parameters": number(manifest["parameters"]),
        "dtype": manifest["dtype"],
        **check,
    }
    (folder / CARD).write_text(render(BASE_TEMPLATE, facts), encoding="utf-8")


def _encoder_facts(files: Files, manifest: Manifest, repo_id: str | None, language: str) -> Facts:
    """All that the card of a sentence encoder says."""
    training = {key: value for key, value in manifest["recipe"]["training"].items() if key in ENCODER_TRAINING}
    own = {
        "adapter": "**this encoder**",
        "shuffled": "this encoder, descriptions shuffled",
        "base": "the base, untrained",
    }
    return _shared_facts(files, manifest, repo_id, language, own) | {
        "settings": model_facts.settings_facts(
            {**manifest["recipe"], "lora": {}, "decoding": {}, "training": training}
        ),
        "answers": number(manifest["answers"]),
        "scale": f"{manifest['scale']:g}",
        "batch": number(training["batch_size"]),
        "install": fence("pip install sentence-transformers", "bash"),
        "snippet": fence(usage.encoder_snippet(files.samples, repo_id), "python"),
    }


def _card_facts(files: Files, manifest: Manifest, repo_id: str | None, language: str) -> Facts:
    """All that an adapter's card says in a language, `en` or `ko`."""
    evaluation = files.evaluation
    return _shared_facts(files, manifest, repo_id, language) | {
        "unseen": model_facts.unseen_facts(evaluation.unseen, language) if evaluation else None,
        "asked_in_korean": metadata.asked_in_korean(manifest.get("request")),
        "request": fence(manifest["request"], "text") if manifest.get("request") else None,
        "request_variants": manifest.get("request_variants") or 1,
        "system": fence(manifest["system"], "text") if manifest.get("system") else None,
        "install": usage.install(manifest),
        "snippet": fence(usage.usage_snippet(manifest, files.samples, manifest["stop_tokens"], repo_id), "python"),
        "new_names": fence(usage.new_names_snippet(manifest), "python"),
        "vllm": vllm.serving_facts(
            files.folder, manifest, usage.asked_messages(manifest, files.samples), repo_id or usage.PLACEHOLDER
        ),
        "citation": fence(usage.model_citation(manifest, repo_id), "bibtex"),
    }


def _shared_facts(
    files: Files, manifest: Manifest, repo_id: str | None, language: str, own: Mapping[str, str] | None = None
) -> Facts:
    """What the cards of adapters and encoders have in common; `own` as for `identification_facts`."""
    evaluation = files.evaluation
    words = plots_in_words(files.log, evaluation)
    return {
        "front_matter": metadata.model_front_matter(manifest, evaluation, repo_id),
        "title": md_text(metadata.model_name(manifest, repo_id)),
        "repo_id": md_text(repo_id or usage.PLACEHOLDER, 96),
        "has_repo": repo_id is not None,
        "base": model_facts.base_facts(manifest),
        "dataset": model_facts.dataset_facts(manifest, evaluation, language),
        "training": model_facts.training_facts(manifest, files.log),
        "evaluated": evaluation is not None,
        "other_version": files.other_version,
        "candidates": number(evaluation.candidates) if evaluation else None,
        "evaluation_seed": evaluation.seed if evaluation else None,
        "test": model_facts.identification_facts(evaluation.test, language, own) if evaluation else None,
        "selected": model_facts.selection_facts(manifest["recipe"]),
        "samples": model_facts.sample_facts(files.samples),
        "settings": model_facts.settings_facts(manifest["recipe"]),
        "figures": {name: md_text(text) if text else None for name, text in words.items()},
        "libraries": {md_text(name, 40): md_text(it, 40) for name, it in manifest["training_libraries"].items()},
        "toolkit": md_text(manifest.get("toolkit") or __version__, 40),
        "pokemon": is_pokemon(manifest),
        "reproduce": usage.commands(manifest, repo_id, evaluation.settings.compare if evaluation else ()),
        "recipe_shipped": usage.recipe_options(manifest["recipe"]) is not None,
    }


def _other_lines(card: Path, expected: str) -> list[str]:
    """The first lines of a card that differ from those that its files make."""
    if not card.is_file():
        return [f"{card.name}: missing"]
    # Not splitlines(): only line feeds end a line of a card.
    there, made = (text.split("\n") for text in (card.read_text(encoding="utf-8", errors="replace"), expected))
    found = [
        f"{card.name}, line {line}: says {plain(says, 80)!r}, its files say {plain(would, 80)!r}"
        for line, (says, would) in enumerate(zip(there, made, strict=False), 1)
        if says != would
    ]
    if not found and len(there) != len(made):
        return [f"{card.name}: {len(there)} lines, its files make {len(made)}"]
    return found[:NAMED]


def _other_results(card: Path, expected: str) -> list[str]:
    """Whether a card's metadata state other results than its evaluation holds."""
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    try:
        stated, made = (front_matter(each).get("model-index") for each in (text, f"---\n{expected}\n---\n"))
    except ValueError as error:
        return [f"{card.name}: {error}"]
    return [] if stated == made else [f"{card.name}: its metadata state other results than evaluation.json"]
