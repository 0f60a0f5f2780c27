"""What a conversation asks, what of it is about this row alone, and what it answers; in a dataset of any make.

A stranger's prompts hold a request that most rows share, as a system turn, before the description or after it. It is
learnt from a sample, so that descriptions are compared and not requests.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from toolkit.data.validation.shard_rows import Row, Turn

# Of a sample, at least so many rows and such a share must have a text for it to be a request.
FEWEST = 3
SHARE = 0.01
# Fewer rows begin alike by chance.
FEWEST_FOR_AFFIX = 8
MOST_TURNS = 20


@dataclass(frozen=True, slots=True)
class Shared:
    """What many conversations of a dataset have in common.

    Attributes:
        turns: Turns before the answer, such as a system turn, with different turns beside them.
        openings: First lines of the first user turn, with different texts after them.
        closings: Last lines of it, with different texts before them.
        prefix: What all first user turns begin with, up to a word's end.
        suffix: What all of them end with.
    """

    turns: frozenset[Turn] = frozenset()
    openings: frozenset[str] = frozenset()
    closings: frozenset[str] = frozenset()
    prefix: str = ""
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Conversation:
    """The texts of one row.

    Attributes:
        prompt: Turns that are not the assistant's, without what many rows share.
        request: What of the first user turn is not the description.
        description: What the answer is about, the turns before it in a longer conversation.
        answer: The last turn when it is the assistant's.
    """

    prompt: str
    request: str
    description: str
    answer: str | None


def learn_shared(rows: Iterable[Sequence[Turn]]) -> Shared:
    """What the conversations of a sample have in common."""
    beside: dict[Turn, set[int]] = defaultdict(set)
    after: dict[str, set[str]] = defaultdict(set)
    before: dict[str, set[str]] = defaultdict(set)
    questions = []
    for turns in rows:
        asked = _before_answer(turns)[:MOST_TURNS]
        for place, turn in enumerate(asked if len(asked) > 1 else ()):
            beside[turn].add(hash((*asked[:place], *asked[place + 1 :])))
        question = _first_question(turns)
        questions.append(question)
        opening, _, rest = question.partition("\n")
        after[opening].add(rest.strip())
        rest, _, closing = question.rpartition("\n")
        before[closing].add(rest.strip())
    enough = max(FEWEST, SHARE * len(questions))
    openings = frozenset(text for text, rests in after.items() if len(rests - {""}) >= enough)
    closings = frozenset(text for text, rests in before.items() if len(rests - {""}) >= enough)
    bare = [_without_lines(question, openings, closings)[1] for question in questions]
    return Shared(
        frozenset(turn for turn, others in beside.items() if len(others) >= enough),
        openings,
        closings,
        *(_affixes(bare) if len(set(bare)) >= FEWEST_FOR_AFFIX else ("", "")),
    )


def _first_question(turns: Sequence[Turn]) -> str:
    return next((turn.content or "" for turn in turns if turn.role == "user"), "").strip()


def _without_lines(question: str, openings: frozenset[str], closings: frozenset[str]) -> tuple[str, str]:
    """Request and description of a question whose first or last lines may be a request."""
    opening, _, rest = question.partition("\n")
    request = ""
    if rest.strip() and opening in openings:
        request, question = opening, rest.strip()
    rest, _, closing = question.rpartition("\n")
    if rest.strip() and closing in closings:
        request, question = f"{request}\n{closing}".strip(), rest.strip()
    return request, question


def _affixes(texts: list[str]) -> tuple[str, str]:
    """What all texts begin and end with, cut where a word ends. Nothing is left of no text."""
    prefix = _common_start(texts)
    prefix = prefix[: max(prefix.rfind(" "), prefix.rfind("\n"), prefix.rfind(":")) + 1]
    suffix = _common_start([text[len(prefix) :][::-1] for text in texts])[::-1]
    starts = [place for sign in " \n" if (place := suffix.find(sign)) >= 0]
    return prefix, suffix[min(starts) :] if starts else ""


def _common_start(texts: list[str]) -> str:
    low, high = min(texts), max(texts)
    differs = (place for place, (one, other) in enumerate(zip(low, high, strict=False)) if one != other)
    return low[: next(differs, min(len(low), len(high)))]


def read_conversation(row: Row, turns: Sequence[Turn], shared: Shared) -> Conversation:
    """The texts of a row, with its own column `description` where the prompt holds it."""
    answer = turns[-1].content if turns[-1].role == "assistant" else None
    question = _first_question(turns)
    stated = (row.values.get("description") or "").strip()
    if stated and stated in question:
        head, _, tail = question.partition(stated)
        request, about = f"{head.strip()}\n{tail.strip()}".strip(), stated
        # The request may be this row's own, and give the name away.
        own = about if request in shared.openings else question
    else:
        request, about = _split(question, shared)
        own = about
    if any(turn.role == "user" and turn in shared.turns for turn in turns[:2]):
        request = question
    if len(turns) == 2 and turns[0].role == "user":
        return Conversation(own, request, about, answer)
    before = _before_answer(turns)
    asked = [turn for turn in before if turn not in shared.turns] or before
    prompt = [turn.content or "" for turn in asked if turn.role != "assistant"]
    story = [turn.content or "" for turn in asked]
    return Conversation(
        "\n\n".join(_instead(prompt, question, own)), request, "\n\n".join(_instead(story, question, about)), answer
    )


def _instead(texts: list[str], question: str, own: str) -> list[str]:
    """The texts with the first question replaced by what of it is this row's own."""
    stripped = [text.strip() for text in texts]
    if question in stripped:
        stripped[stripped.index(question)] = own
    return stripped


def _before_answer(turns: Sequence[Turn]) -> Sequence[Turn]:
    return turns[:-1] if turns[-1].role == "assistant" else turns


def _split(question: str, shared: Shared) -> tuple[str, str]:
    """Request and description of a first user turn."""
    request, about = _without_lines(question, shared.openings, shared.closings)
    prefix = shared.prefix if about.startswith(shared.prefix) else ""
    suffix = shared.suffix if about.endswith(shared.suffix) else ""
    if len(about) > len(prefix) + len(suffix):
        request = "\n".join(part for part in (request, prefix.strip(), suffix.strip()) if part)
        about = about[len(prefix) : len(about) - len(suffix)]
    return request, about.strip()
