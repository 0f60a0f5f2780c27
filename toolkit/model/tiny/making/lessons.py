"""What the tiny base is taught: conversations about synthetic creatures, drawn without end from one seed.

No text of the corpus is among them, and no English name of a creature in it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from toolkit.model import chat
from toolkit.model.chat import REQUEST
from toolkit.model.tiny.making.synthetic import (
    REGISTERS,
    Creature,
    describe,
    facts,
    invent_korean_name,
    invent_name,
    sample_creature,
)

ACQUAINTANCES = 400
# Share of the lessons that are about one of them: a name can only be learnt of a creature that comes back.
ACQUAINTED_NAMES = 0.9
ACQUAINTED_OTHERS = 0.4
# Of a creature's facts, those that nearly every description states.
STATED = ("body", "likeness", "colour", "element", "parts")
ASK_FACTS = "이 포켓몬의 특성을 적어줘:"
ASK_OTHER_WORDS = "이 포켓몬을 다른 말로 설명해줘:"
ASK_DESCRIPTION = "다음 특성을 가진 포켓몬을 설명해줘:"
ASK_KOREAN_NAME = "다음 특성을 살린 포켓몬식 한국어 이름을 지어줘:"

# How often a lesson of each kind is given, and how much it weighs in the loss, however many tokens its answer has.
SHARES = {"name": 0.45, "korean name": 0.05, "facts": 0.40, "other words": 0.06, "description": 0.04}
WEIGHTS = {"name": 2.0, "korean name": 1.0, "facts": 2.0, "other words": 0.5, "description": 0.5}


@dataclass(frozen=True, slots=True)
class Lesson:
    """A conversation of two turns, and what is practised in it."""

    kind: str
    messages: list[dict[str, str]]


def lessons(seed: int, taken: frozenset[str]) -> Iterator[Lesson]:
    """Conversations of two turns, without end.

    Many are about a fixed circle of creatures that come back in ever new words, so that the model learns to recognise a
    creature rather than a sentence; the others are about creatures that are met once.

    Args:
        seed: Decides everything.
        taken: Lower-case names that no synthetic creature may have.
    """
    rng = random.Random(seed)
    circle = [_named(sample_creature(rng), rng, taken) for _ in range(ACQUAINTANCES)]
    while True:
        kind = rng.choices(list(SHARES), list(SHARES.values()))[0]
        if rng.random() < (ACQUAINTED_NAMES if kind == "name" else ACQUAINTED_OTHERS):
            creature, english, korean = rng.choice(circle)
        else:
            creature, english, korean = _named(sample_creature(rng), rng, taken)
        yield _lesson(kind, creature, english, korean, rng)


def _named(creature: Creature, rng: random.Random, taken: frozenset[str]) -> tuple[Creature, str, str]:
    return creature, invent_name(creature, rng, taken), invent_korean_name(creature, rng)


def _lesson(kind: str, creature: Creature, english: str, korean: str, rng: random.Random) -> Lesson:
    description = describe(creature, rng, rng.choice(REGISTERS))
    if kind == "name":
        return _lesson_of(kind, REQUEST, description, english)
    if kind == "korean name":
        return _lesson_of(kind, ASK_KOREAN_NAME, description, korean)
    if kind == "facts":
        return _lesson_of(kind, ASK_FACTS, description, _facts_text(creature))
    if kind == "other words":
        return _lesson_of(kind, ASK_OTHER_WORDS, description, describe(creature, rng, rng.choice(REGISTERS)))
    return _lesson_of(kind, ASK_DESCRIPTION, _facts_text(creature), description)


def _facts_text(creature: Creature) -> str:
    return "; ".join(f"{name}: {value}" for name, value in facts(creature) if name in STATED)


def _lesson_of(kind: str, request: str, text: str, answer: str) -> Lesson:
    return Lesson(kind, chat.with_answer(chat.naming_messages(text, request), answer))
