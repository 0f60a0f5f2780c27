"""The front matter of a model card: which base, licence, dataset and results an adapter states. Knows no card's text.

Names are Hub ids or the last part of a path, so that no path of the machine that trained is published.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from toolkit.cards.escape import md_text, plain
from toolkit.core.layout import TINY_BASE_ID
from toolkit.core.results import Evaluation

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
GEMMA = re.compile(r"google/gemma-.+")
GEMMA_TERMS = "https://ai.google.dev/gemma/terms"
POKEMON = re.compile(r"corpus|pokeapi|.*pok[eé]mon.*", re.IGNORECASE)
MEASURES = {
    "top1": ("accuracy", "Top-1 accuracy"),
    "top5": ("top_5_accuracy", "Top-5 accuracy"),
    "mrr": ("mrr", "MRR"),
    "exact": ("exact_match", "Exact match of the greedy name"),
}
# What a licence id of the Hub looks like; anything else is `other` there.
LICENSE_ID = re.compile(r"[a-z0-9][a-z0-9.+-]{0,39}")
# Longest name in the front matter, in characters.
LONGEST = 96


def front_matter(manifest: Mapping[str, Any], evaluation: Evaluation | None, repo_id: str | None) -> str:
    """The card's YAML, without its `---` lines. The base and the dataset appear only when they are Hub ids."""
    # Late, since huggingface_hub reads which Hub to talk to when it is imported.
    from huggingface_hub import ModelCardData

    base, dataset = manifest["base"], manifest["dataset"]
    on_hub = is_hub_id(base["id"])
    stated, link = license_of(base)
    known = stated is None or LICENSE_ID.fullmatch(stated) is not None
    data = ModelCardData(
        base_model=base["id"] if on_hub else None,
        base_model_relation="adapter" if on_hub else None,
        library_name="peft",
        pipeline_tag="text-generation",
        license=stated if known else "other",
        license_name=None if known else "see-card",
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
    name = repo_id.partition("/")[2] or repo_id if repo_id else str(manifest["recipe"]["name"])
    return plain(name, LONGEST) or "adapter"


def license_of(base: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Licence id and link that pass from a base to its adapter: what its card states, else Gemma's for a Gemma."""
    stated = base.get("license")
    if stated in (None, "other", "gemma") and GEMMA.fullmatch(base["id"]):
        stated = "gemma"
    return stated, GEMMA_TERMS if stated == "gemma" else None


def is_hub_id(name: str) -> bool:
    """Whether a name is `owner/name`, and so no folder of the machine that trained."""
    return len(name) <= LONGEST and HUB_ID.fullmatch(name) is not None


def is_pokemon(manifest: Mapping[str, Any]) -> bool:
    """Whether the names in the dataset are Pokémon's, which are trademarks."""
    dataset = manifest["dataset"]
    named = [dataset["id"], *(dataset.get("sources") or ())]
    return bool(dataset.get("pokemon", any(POKEMON.fullmatch(name) for name in named)))


def _tags(manifest: Mapping[str, Any]) -> list[str]:
    quantised = manifest.get("precision", {}).get("base") == "nf4"
    return ["lora", *(["qlora"] if quantised else []), "naming", *(["pokemon"] if is_pokemon(manifest) else [])]


def _results(manifest: Mapping[str, Any], evaluation: Evaluation | None) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    if evaluation is None or evaluation.test is None:
        return []
    scores, dataset = evaluation.test.methods.get("adapter", {}), measured_on(manifest, evaluation)
    revision = dataset.get("revision")
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=public_name(dataset["id"]),
            dataset_name=public_name(dataset["id"]),
            dataset_split="test",
            dataset_revision=plain(revision, LONGEST) if revision else None,
            metric_type=kind,
            metric_name=name,
            metric_value=round(float(scores[measure].value), 4),
        )
        for measure, (kind, name) in MEASURES.items()
        if measure in scores
    ]


def measured_on(manifest: Mapping[str, Any], evaluation: Evaluation) -> Mapping[str, Any]:
    """The dataset of the figures: that of the training, by the name that it was published under, if its rows are."""
    trained_on: Mapping[str, Any] = manifest["dataset"]
    return trained_on if evaluation.dataset.content == trained_on["content"] else evaluation.dataset.model_dump()


def public_name(name: str) -> str:
    """A Hub id as it is; of anything else its last part, so that no path of the machine is published."""
    return name if is_hub_id(name) else plain(re.split(r"[/\\]", name.rstrip("/\\"))[-1], LONGEST) or "unnamed"


def linked(name: str, site: str, manifest: Mapping[str, Any]) -> str:
    """A name in Markdown, a link to its page when the public Hub has one. `site` ends with a slash."""
    shown = md_text(public_name(name))
    has_page = is_hub_id(name) and name != TINY_BASE_ID and manifest.get("public_hub", True)
    return f"[{shown}]({site}{name})" if has_page else shown
