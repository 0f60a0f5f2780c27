"""Descriptions, one adapter: invented names, or the known creatures that may be meant. Knows nothing of datasets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from toolkit.core.errors import InputError
from toolkit.core.folder import read_json, read_manifest
from toolkit.core.layout import ANSWERS, MANIFEST
from toolkit.core.recipe import DecodingSettings, load_recipe
from toolkit.core.text import clean_text
from toolkit.model import adapter as adapters
from toolkit.model import chat, generate, rank
from toolkit.model.chat_template import Messages
from toolkit.model.memory import memory_errors

NEAREST = 3
# Draws are repeated this often for names that differ; a sure model draws the same ones for ever.
ROUNDS = 4

# Told what is being done, how much of it, and of how much.
Say = Callable[[str, int, int], None]


def _silent(_what: str, _done: int, _of: int) -> None:
    """For whom nobody waits."""


@dataclass(frozen=True, slots=True)
class Answerer:
    """An adapter that is loaded, with what it is asked by.

    Attributes:
        model: On its base, in eval mode.
        tokenizer: Its own, or its base's.
        request: What stands before a description.
        system: The system turn before that, if there is one.
        decoding: How names are sampled.
        known: Distinct names of the creatures that it may know; empty when nobody says which.
        prepared: The same, ready to be ranked.
        at_once: How many names the memory holds at once, as far as it is known.
    """

    model: Any
    tokenizer: Any
    request: str
    system: str | None
    decoding: DecodingSettings
    known: list[str]
    prepared: rank.Prepared | None
    at_once: generate.AtOnce = field(default_factory=generate.AtOnce)


@dataclass(frozen=True, slots=True)
class Invented:
    """A name that was drawn.

    Attributes:
        name: As the model wrote it.
        probability: That the model answers exactly this and ends its turn, at temperature 1 and of all it could say.
        known: Whether a known creature is called so, in any case of letters; None when no names are known.
    """

    name: str
    probability: float
    known: bool | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A known name, with its probability among all known names."""

    name: str
    probability: float


@dataclass(frozen=True, slots=True)
class Named:
    """Names for a description, the likeliest first, and the known creatures nearest to it."""

    description: str
    names: list[Invented]
    nearest: list[Candidate]


@dataclass(frozen=True, slots=True)
class Identified:
    """The likeliest of the known creatures, in order."""

    description: str
    candidates: list[Candidate]


def open_adapter(
    adapter: Path, candidates: Sequence[str] | None = None, *, to_identify: bool = False, progress: Say = _silent
) -> Answerer:
    """Load an adapter to ask it. One that pkt did not train is asked with pkt's own request and default decoding.

    Args:
        adapter: Its folder.
        candidates: Known names, in the place of those that the adapter learnt; cleaned, and each taken once.
        to_identify: Refuse an adapter of which no known names are told.
        progress: Told how many of many known names are prepared.

    Raises:
        InputError: The adapter can not be loaded or read, no candidate is a name, or there are no names to identify by.
        EnvironmentLacks: The memory is too small.
    """
    manifest = read_manifest(adapter, "adapter") if (adapter / MANIFEST).is_file() else None
    decoding = DecodingSettings() if manifest is None else load_recipe(manifest.get("recipe")).decoding
    facts = manifest or {}
    known = _cleaned(candidates) if candidates is not None else _learnt(adapter / ANSWERS)
    if to_identify and not known:
        raise InputError(
            f"The adapter in {adapter} does not say which names it learnt (there is no {ANSWERS}).",
            "Name a text file with one name a line: --candidates FILE.",
        )
    loaded, tokenizer, _ = adapters.load_adapter(adapter)
    ids = rank.answer_ids(tokenizer, known, partial(progress, "preparing known names"))
    prepared = rank.prepare(ids) if known else None
    request = facts.get("request") or chat.REQUEST
    return Answerer(loaded, tokenizer, request, facts.get("system"), decoding, known, prepared)


def name(answerer: Answerer, description: str, count: int, seed: int, progress: Say = _silent) -> Named:
    """At most `count` different names sampled for a description, fewer when the same ones come again and again.

    They are drawn with the decoding settings that the adapter was evaluated with; probabilities do not depend on those.
    Progress is told how many of the known names are ranked.

    Raises:
        InputError: An empty description, one that is too long, or one with a control token.
        EnvironmentLacks: The memory is too small.
    """
    messages, prompt = _conversation(answerer, description)
    with memory_errors():
        names = _draw(answerer, messages, count, seed)
        invented = _weighed(answerer, prompt, names) if names else []
        nearest = _ranked(answerer, prompt, progress)[:NEAREST]
    return Named(clean_text(description), invented, nearest)


def identify(answerer: Answerer, description: str, top: int, progress: Say = _silent) -> Identified:
    """The `top` likeliest of the known names, with their probabilities among all of them; none where none are known.

    Progress is told as by `name`.

    Raises:
        InputError: As `name`.
        EnvironmentLacks: The memory is too small.
    """
    _, prompt = _conversation(answerer, description)
    with memory_errors():
        return Identified(clean_text(description), _ranked(answerer, prompt, progress)[:top])


def _draw(answerer: Answerer, messages: Messages, count: int, seed: int) -> list[str]:
    names: dict[str, None] = {}
    for number in range(ROUNDS):
        drawn = generate.sample_names(
            answerer.model, answerer.tokenizer, messages, answerer.decoding, count, seed + number, answerer.at_once
        )
        names.update(dict.fromkeys(filter(None, drawn)))
        if len(names) >= count:
            break
    return list(names)[:count]


def _weighed(answerer: Answerer, prompt: Sequence[int], names: list[str]) -> list[Invented]:
    """Names with what is known of them, the likeliest first."""
    scores = rank.log_likelihoods(answerer.model, prompt, rank.answer_ids(answerer.tokenizer, names))
    known = {name.casefold() for name in answerer.known}
    weighed = [
        Invented(name, math.exp(score), name.casefold() in known if known else None)
        for name, score in zip(names, scores, strict=True)
    ]
    return sorted(weighed, key=lambda one: -one.probability)


def _ranked(answerer: Answerer, prompt: Sequence[int], progress: Say) -> list[Candidate]:
    """All known names, the likeliest first."""
    if answerer.prepared is None:
        return []
    scores = rank.score(answerer.model, prompt, answerer.prepared, partial(progress, "ranking known names"))
    highest = max(scores)
    weights = [math.exp(score - highest) for score in scores]
    total = sum(weights)
    candidates = [Candidate(name, weight / total) for name, weight in zip(answerer.known, weights, strict=True)]
    return sorted(candidates, key=lambda candidate: -candidate.probability)


def _conversation(answerer: Answerer, description: str) -> tuple[Messages, list[int]]:
    """What the model is sent, as messages and as token ids."""
    text = clean_text(description)
    if not text:
        raise InputError("The description is empty.", "Describe the creature in a sentence or two.")
    messages = chat.naming_messages(text, answerer.request, answerer.system)
    prompt = chat.prompt_ids(answerer.tokenizer, messages)
    reason = generate.too_long(answerer.model, prompt, answerer.decoding)
    if reason:
        raise InputError(f"The description is too long: {reason}.", "Shorten it.")
    return messages, prompt


def _learnt(file: Path) -> list[str]:
    """The names that the adapter learnt; none when it does not say."""
    if not file.is_file():
        return []
    answers = read_json(file)
    if not isinstance(answers, list) or not answers or not all(isinstance(answer, str) for answer in answers):
        raise InputError(f"{file} is not a list of answers.", "Train or download the adapter again.")
    return list(dict.fromkeys(answers))


def _cleaned(candidates: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys(filter(None, map(clean_text, candidates))))
    if not names:
        raise InputError("The candidates hold no names.", "Write one name a line.")
    return names
