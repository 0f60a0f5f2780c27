"""The card of a merged model: which adapter and base it is, how to load it, how it was checked. Knows no weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from toolkit.cards.escape import fence, md_cell, md_text, python_literal
from toolkit.cards.model.metadata import is_hub_id, license_of, linked
from toolkit.cards.templates import render
from toolkit.core.hub_client import DEFAULT_ENDPOINT

TEMPLATE = "merged_card.md.jinja"
# Differences that the card shows, and the longest name in it.
SHOWN, NAME = 10, 60


def write_card(folder: Path, facts: Mapping[str, Any], messages: Sequence[Mapping[str, str]]) -> None:
    """Write `README.md` of a merged model.

    Args:
        folder: The merged model's.
        facts: What its manifest will say.
        messages: The conversation of the snippet.
    """
    check, name, base = facts["check"], str(facts["adapter"]["id"]), facts["base"]
    text = render(
        TEMPLATE,
        {
            "front_matter": front_matter(facts, name),
            "title": md_text(f"{name.rpartition('/')[2]}, merged", NAME),
            "adapter": linked(name, f"{DEFAULT_ENDPOINT}/", facts),
            "weights": facts["adapter"]["weights"],
            "base": linked(base["id"], f"{DEFAULT_ENDPOINT}/", facts),
            "revision": md_cell(base["revision"], NAME) if base["revision"] else None,
            "dtype": facts["dtype"],
            "samples": check["samples"],
            "same": check["samples"] - len(check["differences"]),
            "differences": [_row(difference) for difference in check["differences"][:SHOWN]],
            "more": max(0, len(check["differences"]) - SHOWN),
            "snippet": fence(_snippet(messages, facts["dtype"]), "python"),
        },
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def front_matter(facts: Mapping[str, Any], adapter: str) -> str:
    """The card's YAML, without its `---` lines.

    For the Hub, a merge is made of several models; a base with an adapter merged into it is a finetune of that base.
    """
    # Late, since huggingface_hub reads which Hub to talk to when it is imported.
    from huggingface_hub import ModelCardData

    base, dataset = facts["base"], facts["dataset"].get("id", "")
    stated, link = license_of(base)
    on_hub = is_hub_id(base["id"])
    data = ModelCardData(
        base_model=base["id"] if on_hub else None,
        base_model_relation="finetune" if on_hub else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        license=stated or "other",
        license_link=link,
        datasets=[dataset] if is_hub_id(dataset) else None,
        language=["ko", "en"],
        tags=["naming"],
        model_name=f"{adapter.rpartition('/')[2]}-merged",
    )
    return str(data.to_yaml())


def _row(difference: Mapping[str, str]) -> dict[str, str]:
    return {key: md_cell(difference[key], NAME) for key in ("id", "adapter", "merged")}


def _snippet(messages: Sequence[Mapping[str, str]], dtype: str) -> str:
    turns = ",\n".join(
        f'    {{"role": {python_literal(turn["role"])}, "content": {python_literal(turn["content"])}}}'
        for turn in messages
    )
    return render("merged_usage.py.jinja", {"turns": turns, "dtype": dtype}).rstrip()
