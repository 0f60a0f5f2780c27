"""A model's answers to rows of a dataset: the ranking of the candidates, the likeliest name, and sampled names.

Each answer is kept in a journal, from which an interrupted evaluation continues.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from toolkit.core import Progress
from toolkit.core.errors import InputError
from toolkit.core.recipe import DecodingSettings
from toolkit.data.dataset import answer_of
from toolkit.evaluation.journal import Journal
from toolkit.evaluation.ranks import Rank, rank_of
from toolkit.model import chat, generate, rank

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

TOP = 5

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ranking:
    """How a model ranks the candidates after a description.

    Attributes:
        rank: Of the right answer.
        log_likelihood: Of the right answer, in nats.
        confidence: Probability of the first candidate among all candidates.
        top: The first candidates.
        log_likelihoods: Theirs.
        others: Ranks of the answers of other rows after this description, by the number of the row.
    """

    rank: Rank
    log_likelihood: float
    confidence: float
    top: list[str]
    log_likelihoods: list[float]
    others: dict[str, Rank] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AnsweringModel:
    """A model that answers questions about rows.

    Attributes:
        method: The name under which its answers are kept.
        model: In eval mode.
        tokenizer: Its tokenizer.
        decoding: How names are sampled.
        names: How many for each row.
        journal: Where answers are kept.
        progress: Called after each answer.
    """

    method: str
    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    decoding: DecodingSettings
    names: int
    journal: Journal
    progress: Progress

    def check_lengths(self, split: str, rows: Sequence[Row]) -> None:
        """Raise InputError for a row that the model cannot read whole; rows are counted from 0."""
        for number, row in enumerate(rows):
            prompt = chat.prompt_ids(self.tokenizer, row["messages"][:-1])
            reason = generate.too_long(self.model, prompt, self.decoding)
            if reason:
                raise InputError(
                    f"The description in row {number} of {split} is too long: {reason}.",
                    "Shorten it, or leave the row out.",
                )

    def rankings(
        self, rows: Sequence[Row], candidates: Sequence[str], partners: Sequence[Sequence[int]]
    ) -> list[Ranking]:
        """One for each row, with the ranks of the answers of the rows that have it as a partner."""

        def preparing(_task: str, done: float, of: int | None) -> None:
            self.progress(f"{self.method}: candidates", done, of)

        prepared = rank.prepare(rank.answer_ids(self.tokenizer, candidates, preparing))
        numbers = {answer: number for number, answer in enumerate(candidates)}
        right = [numbers[answer_of(row)] for row in rows]
        asking: list[list[int]] = [[] for _ in rows]
        for row, found in enumerate(partners):
            for partner in found:
                asking[partner].append(row)

        def within(row: int, _task: str, done: float, of: int | None) -> None:
            # The end of a row is reported when its answer is kept.
            if of is not None and done < of:
                self.progress(f"{self.method}: identify", row + done / of, len(rows))

        def work(row: int) -> dict[str, Any]:
            prompt = chat.prompt_ids(self.tokenizer, rows[row]["messages"][:-1])
            scores = rank.score(self.model, prompt, prepared, partial(within, row))
            others = {str(other): rank_of(scores, right[other]) for other in asking[row]}
            return asdict(_ranking(scores, right[row], candidates, others))

        return [_restored(found) for found in self._each("identify", "rank", len(rows), work)]

    def greedy(self, rows: Sequence[Row], split: str) -> list[str]:
        """The likeliest name for each row of a split."""

        def work(row: int) -> str:
            return generate.greedy_name(self.model, self.tokenizer, rows[row]["messages"][:-1], self.decoding)

        return self._each("answer", f"greedy-{split}", len(rows), work)

    def samples(self, rows: Sequence[Row], first: int, seed: int) -> list[list[generate.Generated]]:
        """Names sampled for each row, by the seed and the row's position, counted from `first`."""

        def work(row: int) -> list[dict[str, Any]]:
            messages = rows[row]["messages"][:-1]
            drawn = generate.sample(self.model, self.tokenizer, messages, self.decoding, self.names, seed + first + row)
            return [asdict(one) for one in drawn]

        kept = self._each("sample", f"sample-{first}", len(rows), work)
        return [[generate.Generated(**one) for one in drawn] for drawn in kept]

    def _each(self, task: str, piece: str, count: int, work: Callable[[int], Any]) -> list[Any]:
        results = []
        for row in range(count):
            results.append(self.journal.once(f"{self.method}/{piece}/{row}", partial(work, row)))
            self.progress(f"{self.method}: {task}", row + 1, count)
        return results


def _ranking(scores: Sequence[float], right: int, candidates: Sequence[str], others: dict[str, Rank]) -> Ranking:
    first = sorted(range(len(candidates)), key=lambda index: (-scores[index], index))[:TOP]
    highest = scores[first[0]]
    return Ranking(
        rank=rank_of(scores, right),
        log_likelihood=scores[right],
        confidence=1 / sum(math.exp(score - highest) for score in scores),
        top=[candidates[index] for index in first],
        log_likelihoods=[scores[index] for index in first],
        others=others,
    )


def _restored(found: dict[str, Any]) -> Ranking:
    """A ranking from the journal, where ranks are lists."""
    others = {row: Rank(*one) for row, one in found["others"].items()}
    return Ranking(**found | {"rank": Rank(*found["rank"]), "others": others})
