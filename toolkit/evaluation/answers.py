"""A model's answers to rows of a dataset: the ranking of the candidates, the likeliest name, and sampled names.

Each answer is kept in a journal, from which an interrupted evaluation continues.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from toolkit.core import Progress
from toolkit.core.errors import InputError
from toolkit.core.folder import unwritable
from toolkit.core.recipe import DecodingSettings
from toolkit.data.dataset import Row, answer_of
from toolkit.evaluation.ranks import Rank, rank_of
from toolkit.model import chat, generate, rank

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TOP = 5


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
    model: PeftModel | PreTrainedModel
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
        """Rank the candidates for each row.

        `others` also ranks, after this row's description, the right answers of the rows that use it as a shuffled
        partner.
        """

        def preparing(_task: str, done: float, of: int | None) -> None:
            self.progress(f"{self.method}: candidates", done, of)

        prepared = rank.prepare(rank.encode_answers(self.tokenizer, candidates, preparing))
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

        return [_restored(found) for found in self._each("identify", "ranking", len(rows), work)]

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


class Journal:
    """Results of finished pieces, by name. A file of other work (another `key`) is replaced only by `restart`.

    Attributes:
        found: How many pieces an earlier run had finished.
    """

    def __init__(self, file: Path, key: str, *, restart: bool = False) -> None:
        self.file = file
        self._done: dict[str, object] = {}
        try:
            whole = 0 if restart else self._read(key)
            file.parent.mkdir(parents=True, exist_ok=True)
            self._open: IO[str] = file.open("r+" if whole else "w", encoding="utf-8")
            # The line at which an earlier run was killed may be half a line.
            self._open.truncate(whole)
            self._open.seek(whole)
            if not whole:
                self._append({"key": key})
        except OSError as error:
            raise unwritable(file, error) from error
        self.found = len(self._done)

    def _read(self, key: str) -> int:
        """Read the file's results, and return how many of its bytes are whole lines of this work."""
        if not self.file.is_file():
            return 0
        whole, lines = 0, self.file.read_bytes().splitlines(keepends=True)
        for line in lines:
            try:
                entry = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                entry = None
            if not isinstance(entry, dict) or (whole == 0 and entry.get("key") != key):
                break
            if "piece" in entry:
                self._done[str(entry["piece"])] = entry.get("result")
            whole += len(line)
        if not whole and len(lines) > 1:
            raise InputError(
                f"{self.file} holds answers of an interrupted evaluation of other data, settings or weights.",
                "Finish that one, or give `restart=True` to discard its answers.",
            )
        return whole

    def once(self, piece: str, work: Callable[[], Any]) -> Any:
        """The result of a piece, a JSON value: the kept one, or that of the work, which is kept then.

        Raises:
            ToolkitError: The file cannot be written.
        """
        if piece not in self._done:
            result = work()
            try:
                self._append({"piece": piece, "result": result})
            except OSError as error:
                raise unwritable(self.file, error) from error
            self._done[piece] = result
        return self._done[piece]

    def _append(self, entry: dict[str, object]) -> None:
        self._open.write(json.dumps(entry, ensure_ascii=False) + "\n")
        self._open.flush()

    def close(self) -> None:
        """Keep the finished pieces for another run; without any, remove the file."""
        self._open.close()
        if not self._done:
            self.file.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the file, after the last piece."""
        self._open.close()
        self.file.unlink(missing_ok=True)
