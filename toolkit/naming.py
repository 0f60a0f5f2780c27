"""One description, one adapter: invented names, or the known creatures it may be. Knows nothing of datasets."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from toolkit import chat, generate, model, rank
from toolkit.errors import InputError
from toolkit.folder import read_json, read_manifest
from toolkit.recipe import load_recipe
from toolkit.text import clean_text


def name(adapter: Path, description: str, count: int, seed: int) -> list[str]:
    """`count` names sampled for a description, with the decoding settings that the adapter was evaluated with.

    Raises:
        InputError: An empty description, or an adapter that can not be loaded.
        EnvironmentLacks: The memory is too small.
    """
    manifest, messages = _conversation(adapter, description)
    settings = load_recipe(manifest.get("recipe")).decoding
    peft_model, tokenizer, _ = model.load_adapter(adapter)
    with model.memory_errors():
        return generate.sample_names(peft_model, tokenizer, messages, settings, count, seed)


def identify(adapter: Path, description: str, top: int) -> list[tuple[str, float]]:
    """The likeliest of the names that the adapter learnt, with their probabilities among all of them.

    Raises:
        InputError: An empty description, or an adapter that can not be loaded.
        EnvironmentLacks: The memory is too small.
    """
    _, messages = _conversation(adapter, description)
    answers = _answers(adapter / model.ANSWERS)
    peft_model, tokenizer, _ = model.load_adapter(adapter)
    prompt, candidates = chat.prompt_ids(tokenizer, messages), rank.answer_ids(tokenizer, answers)
    with model.memory_errors():
        scores = rank.log_likelihoods(peft_model, prompt, candidates)
    highest = max(scores)
    weights = [math.exp(score - highest) for score in scores]
    ranked = sorted(zip(answers, weights, strict=True), key=lambda pair: -pair[1])
    return [(answer, weight / sum(weights)) for answer, weight in ranked[:top]]


def _answers(file: Path) -> list[str]:
    answers = read_json(file)
    if not isinstance(answers, list) or not answers or not all(isinstance(answer, str) for answer in answers):
        raise InputError(f"{file} is not a list of answers.", "Train or download the adapter again.")
    return answers


def _conversation(adapter: Path, description: str) -> tuple[dict[str, Any], list[dict[str, str]]]:
    text = clean_text(description)
    if not text:
        raise InputError("The description is empty.", "Describe the creature in a sentence or two.")
    manifest = read_manifest(adapter, "adapter")
    return manifest, chat.naming_messages(text, manifest.get("request") or chat.REQUEST, manifest.get("system"))
