"""What the tiny base is taught: conversations about synthetic creatures, drawn without end from one seed.

No text of the corpus is among them, and no name of a real creature.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from toolkit.chat import REQUEST
from toolkit.tiny.synthetic import Creature, describe, facts, invent_korean_name, invent_name, sample_creature

REGISTERS = ("caption", "field", "child", "precise", "riddle", "habitat")
ACQUAINTANCES = 300
# Of a creature's facts, those that nearly every description states.
STATED = ("body", "likeness", "colour", "element", "parts")
ASK_FACTS = "이 포켓몬의 특성을 적어줘:"
ASK_OTHER_WORDS = "이 포켓몬을 다른 말로 설명해줘:"
ASK_DESCRIPTION = "다음 특성을 가진 포켓몬을 설명해줘:"
ASK_KOREAN_NAME = "다음 특성을 살린 포켓몬식 한국어 이름을 지어줘:"

Lesson = list[dict[str, str]]


def lessons(seed: int, taken: frozenset[str], acquaintances: int = ACQUAINTANCES) -> Iterator[Lesson]:
    """Conversations of two turns, without end.

    Most are about a fixed circle of creatures that come back in ever new words, so that the model learns to recognise a
    creature rather than a sentence; the others are about creatures that are met once.

    Args:
        seed: Decides everything.
        taken: Lower-case names that no synthetic creature may have.
    """
    rng = random.Random(seed)
    circle = [_named(sample_creature(rng), rng, taken) for _ in range(acquaintances)]
    while True:
        if rng.random() < 0.8:
            creature, english, korean = rng.choice(circle)
        else:
            creature, english, korean = _named(sample_creature(rng), rng, taken)
        yield _lesson(creature, english, korean, rng)


def _named(creature: Creature, rng: random.Random, taken: frozenset[str]) -> tuple[Creature, str, str]:
    return creature, invent_name(creature, rng, taken), invent_korean_name(creature, rng)


def _lesson(creature: Creature, english: str, korean: str, rng: random.Random) -> Lesson:
    description = describe(creature, rng, rng.choice(REGISTERS))
    kind = rng.random()
    if kind < 0.55:
        return _turns(REQUEST, description, english)
    if kind < 0.60:
        return _turns(ASK_KOREAN_NAME, description, korean)
    if kind < 0.80:
        return _turns(ASK_FACTS, description, _facts_text(creature))
    if kind < 0.92:
        return _turns(ASK_OTHER_WORDS, description, describe(creature, rng, rng.choice(REGISTERS)))
    return _turns(ASK_DESCRIPTION, _facts_text(creature), description)


def _facts_text(creature: Creature) -> str:
    return "; ".join(f"{name}: {value}" for name, value in facts(creature) if name in STATED)


def _turns(request: str, text: str, answer: str) -> Lesson:
    return [{"role": "user", "content": f"{request}\n\n{text}"}, {"role": "assistant", "content": answer}]
