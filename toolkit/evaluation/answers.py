"""A model's answers to rows of a dataset: how it ranks the candidates, its likeliest name, and names that it samples.

Knows nothing of figures. Each answer is kept in a journal, so that an interrupted evaluation goes on where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from toolkit.core.errors import InputError
from toolkit.core.recipe import DecodingSettings
from toolkit.data.dataset import answer_of
from toolkit.evaluation.journal import Journal
from toolkit.evaluation.ranks import Place, place_of
from toolkit.model import chat, generate, rank
from toolkit.model.chat_template import Messages

TOP = 5

Row = dict[str, Any]
# Told what is being done, how much of it (a row may be done in part), and of how much.
Say = Callable[[str, float, int], None]


@dataclass(frozen=True, slots=True)
class Ranked:
    """How a description was identified.

    Attributes:
        place: Of the right answer.
        log_likelihood: Of the right answer, in nats.
        confidence: Probability of the first candidate among all candidates.
        top: The first candidates.
        log_likelihoods: Theirs.
        others: Places of the answers of other rows after this description, by the number of the row.
    """

    place: Place
    log_likelihood: float
    confidence: float
    top: list[str]
    log_likelihoods: list[float]
    others: dict[str, Place] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Questions:
    """What a model is asked.

    Attributes:
        test: Rows whose answer it ranks among the candidates, and names token by token.
        candidates: Distinct answers.
        partners: For each row of `test`, the other rows whose descriptions its answer is also looked up after.
        sampled: Rows that names are sampled for, each with the seed that draws them.
        decoding: How names are sampled.
        names: How many for each row.
    """

    test: Sequence[Row]
    candidates: Sequence[str]
    partners: Sequence[Sequence[int]]
    sampled: Sequence[tuple[Row, int]]
    decoding: DecodingSettings
    names: int


class Reader:
    """A model that is asked, under the name of a method.

    Attributes:
        method: What its answers are kept under.
    """

    def __init__(
        self, method: str, model: Any, tokenizer: Any, questions: Questions, journal: Journal, say: Say
    ) -> None:
        self.method = method
        self._model, self._tokenizer = model, tokenizer
        self._questions, self._journal, self._say = questions, journal, say

    def check_lengths(self, split: str, asked: Sequence[Row]) -> None:
        """Raise InputError for a row that the model can not read whole; rows are counted from 0."""
        for number, row in enumerate(asked):
            prompt = chat.prompt_ids(self._tokenizer, row["messages"][:-1])
            reason = generate.too_long(self._model, prompt, self._questions.decoding)
            if reason:
                raise InputError(
                    f"The description in row {number} of {split} is too long: {reason}.",
                    "Shorten it, or leave the row out.",
                )

    def rankings(self) -> list[Ranked]:
        """One for each row of `test`."""
        asked = self._questions

        def preparing(_task: str, done: float, of: int | None) -> None:
            self._say(f"{self.method}: candidates", done, of or 0)

        prepared = rank.prepare(rank.answer_ids(self._tokenizer, asked.candidates, preparing))
        number = {answer: index for index, answer in enumerate(asked.candidates)}
        right = [number[answer_of(row)] for row in asked.test]
        looked_up: list[list[int]] = [[] for _ in asked.test]
        for row, partners in enumerate(asked.partners):
            for partner in partners:
                looked_up[partner].append(row)

        def within(index: int, _task: str, done: float, of: int | None) -> None:
            # The end of a row is said when its answer is kept.
            if of is not None and done < of:
                self._say(f"{self.method}: identify", index + done / of, len(asked.test))

        def work(index: int) -> dict[str, Any]:
            prompt = chat.prompt_ids(self._tokenizer, asked.test[index]["messages"][:-1])
            scores = rank.score(self._model, prompt, prepared, partial(within, index))
            others = {str(row): place_of(scores, right[row]) for row in looked_up[index]}
            return asdict(_ranked(scores, right[index], asked.candidates, others))

        return [_kept(found) for found in self._each("identify", "rank", len(asked.test), work)]

    def greedy(self, conversations: Sequence[Messages], split: str) -> list[str]:
        """The likeliest name after each conversation of a split."""

        def work(index: int) -> str:
            return generate.greedy_name(self._model, self._tokenizer, conversations[index], self._questions.decoding)

        return self._each("answer", f"greedy-{split}", len(conversations), work)

    def samples(self, which: range) -> list[list[generate.Generated]]:
        """Names for those rows of `sampled`."""
        asked = self._questions

        def work(index: int) -> list[dict[str, Any]]:
            row, seed = asked.sampled[which[index]]
            drawn = generate.sample(
                self._model, self._tokenizer, row["messages"][:-1], asked.decoding, asked.names, seed
            )
            return [asdict(one) for one in drawn]

        kept = self._each("sample", f"sample-{which.start}", len(which), work)
        return [[generate.Generated(**one) for one in drawn] for drawn in kept]

    def _each(self, what: str, piece: str, count: int, work: Callable[[int], Any]) -> list[Any]:
        results = []
        for index in range(count):
            results.append(self._journal.once(f"{self.method}/{piece}/{index}", partial(work, index)))
            self._say(f"{self.method}: {what}", index + 1, count)
        return results


def _ranked(scores: Sequence[float], right: int, candidates: Sequence[str], others: dict[str, Place]) -> Ranked:
    first = sorted(range(len(candidates)), key=lambda index: (-scores[index], index))[:TOP]
    highest = scores[first[0]]
    return Ranked(
        place=place_of(scores, right),
        log_likelihood=scores[right],
        confidence=1 / sum(math.exp(score - highest) for score in scores),
        top=[candidates[index] for index in first],
        log_likelihoods=[scores[index] for index in first],
        others=others,
    )


def _kept(found: dict[str, Any]) -> Ranked:
    """A ranking as the journal gives it, in which places are lists."""
    others = {row: Place(*place) for row, place in found["others"].items()}
    return Ranked(**found | {"place": Place(*found["place"]), "others": others})


def shuffled_places(rankings: Sequence[Ranked], partners: Sequence[Sequence[int]]) -> list[list[Place]]:
    """For each row, the places of its answer after the descriptions of its partners."""
    return [
        [rankings[partner].others[str(row)] for partner in row_partners] for row, row_partners in enumerate(partners)
    ]
