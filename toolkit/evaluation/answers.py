"""A model's answers to rows of a dataset: the ranking of the candidates, the likeliest name, sampled names of both ways
of drawing, and how they rank the descriptions.

Each answer is kept in a journal, from which an interrupted evaluation continues.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from toolkit.core import Progress, ignore
from toolkit.core.errors import InputError
from toolkit.core.folder import unwritable
from toolkit.core.recipe import DecodingSettings
from toolkit.core.workers import EngineName, spread
from toolkit.evaluation.ranks import Rank, rank_of
from toolkit.model import chat, generate, new_names, rank
from toolkit.model.centroids import Centroids
from toolkit.model.chat_template import Messages
from toolkit.model.kernels import float32_kernels
from toolkit.model.loading import Precision
from toolkit.model.memory import halving
from toolkit.model.prompts import Prompts, Reader, shared_opening

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TOP = 5
# Prompts that are read together, and names that are generated together.
TOGETHER = 32


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
class Question:
    """What a model is asked about a row.

    Attributes:
        messages: The row's, without its answer.
        right: The right answer's number among the candidates, which are ranked; None where they are not.
        others: Numbers of other rows' right answers that are ranked too, by the number of the row.
        seed: Decides the sampled names; None where none are drawn.
        new: Whether names that are new by construction are drawn too, by the same seed.
        where: The row, for errors: `row 3 of test`.
    """

    messages: Messages
    right: int | None = None
    others: Mapping[int, int] = field(default_factory=dict)
    seed: int | None = None
    new: bool = False
    where: str = "a question"


@dataclass(frozen=True, slots=True)
class Ten:
    """Ten questions about different creatures, by number.

    Attributes:
        questions: All ten.
        asked: Those of them whose names are placed among the ten; the others are there to compare with.
    """

    questions: list[int]
    asked: list[int]


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer to a question.

    Attributes:
        ranking: How it ranks the candidates, by their likelihood.
        nearest: How it ranks them by its centroids; None where it has none.
        greedy: Its likeliest name.
        drawn: Names that were drawn from its probabilities.
        new: Names drawn so that none is a known one.
        fits: For each name of either kind, the rank of its own question among ten (`docs/metrics.md`); empty where
            the question is in no ten.
    """

    ranking: Ranking | None
    nearest: Ranking | None
    greedy: str
    drawn: list[generate.Generated]
    new: list[generate.Generated]
    fits: dict[str, Rank]

    @property
    def identified(self) -> Ranking | None:
        """The ranking that identifies a creature: by centroids where there are some."""
        return self.nearest or self.ranking


Load = Callable[[], "tuple[PeftModel | PreTrainedModel, PreTrainedTokenizerBase, Precision | None]"]


@dataclass(frozen=True, slots=True)
class AnsweringModel:
    """A model that answers questions about rows.

    Attributes:
        method: The name under which its answers are kept.
        load: Gives it in eval mode, with its tokenizer, and the precision of its base where that is to be kept.
        decoding: How names are sampled.
        names: How many for each row.
        centroids: Those of the answers that it learnt, by which candidates are ranked too.
        kernels: Of `float32_kernels`.
    """

    method: str
    load: Load
    decoding: DecodingSettings
    names: int
    centroids: Centroids | None = None
    kernels: str | None = None

    def answers(
        self, asked: Asked, journal: Journal, progress: Progress = ignore, engine: EngineName = "local"
    ) -> list[Answer]:
        """The answer to each question, in order.

        Prompts of about one length are read together. Which are depends on the questions alone, so that an interrupted
        evaluation ends with the same bytes, and one in workers.

        Args:
            asked: The questions.
            journal: Where answers are kept, and those of an earlier run found.
            progress: Called after each pass of a ranking, and when answers are kept; in workers after their tasks.
            engine: Where they are computed.

        Raises:
            InputError: A description that the model cannot read whole, or its probabilities are NaN.
        """
        rows, results = asked.rows(self.centroids is not None), journal.results
        done = Counter(kind for kind, of_kind in rows.items() for row in of_kind if self.piece(kind, row) in results)

        def report(kind: str, more: float = 0, of: int | None = None) -> None:
            progress(f"{self.method}: {kind}", done[kind] + more, of or len(rows[kind]))

        def keep(kind: str, row: int, result: Any) -> None:
            done[kind] += 1
            journal.keep(self.piece(kind, row), result)

        def tasks() -> Iterator[_Task | None]:
            yield from (("answer", first, {}) for first in range(0, len(asked.questions), TOGETHER))
            yield None
            for number, ten in enumerate(asked.tens):
                drawn = [self.piece(kind, row) for row in ten.asked for kind in ("sample", "new")]
                yield "place", number, {piece: results[piece] for piece in drawn if piece in results}

        if done.total() < sum(map(len, rows.values())):
            # In this process, each answer is kept when it is there.
            told = (keep, report) if engine == "local" else (None, ignore)
            for fresh in spread(partial(_Answering, self, asked, dict(results), *told), tasks(), engine):
                for (kind, row), result in fresh.items():
                    if self.piece(kind, row) not in results:
                        keep(kind, row, result)
                        report(kind)
        return [self._kept(results, row) for row in range(len(asked.questions))]

    def piece(self, kind: str, row: int) -> str:
        """The name of an answer in a journal."""
        return f"{self.method}/{kind}/{row}"

    def precision(self, journal: Journal) -> Precision:
        """That of its base."""
        return Precision(**journal.results[self.piece("precision", 0)])

    def _kept(self, results: Mapping[str, Any], row: int) -> Answer:
        """The answer to a question, from the journal."""
        ranking, nearest, fits = (results.get(self.piece(kind, row)) for kind in ("identify", "nearest", "fit"))
        return Answer(
            None if ranking is None else _restored(ranking),
            None if nearest is None else _restored(nearest),
            results[self.piece("answer", row)],
            _drawn(results.get(self.piece("sample", row))),
            _drawn(results.get(self.piece("new", row))),
            {name: Rank(*one) for name, one in (fits or {}).items()},
        )


def _drawn(kept: Sequence[Mapping[str, Any]] | None) -> list[generate.Generated]:
    return [generate.Generated(**one) for one in kept or ()]


@dataclass(frozen=True, slots=True)
class Asked:
    """The questions to one model.

    Attributes:
        questions: What is asked.
        candidates: The names that are ranked.
        known: The names that are not new.
        tens: Questions among which drawn names are placed.
    """

    questions: Sequence[Question]
    candidates: Sequence[str]
    known: Sequence[str] = ()
    tens: Sequence[Ten] = ()

    def rows(self, by_centroids: bool) -> dict[str, set[int]]:
        """The numbers of the questions that have an answer of each kind; `precision` is one of the model."""
        asked = dict(enumerate(self.questions))
        ranked = {row for row, one in asked.items() if one.right is not None}
        return {
            "precision": {0},
            "identify": ranked,
            "nearest": ranked if by_centroids else set(),
            "answer": set(asked),
            "sample": {row for row, one in asked.items() if one.seed is not None},
            "new": {row for row, one in asked.items() if one.seed is not None and one.new},
            "fit": {row for ten in self.tens for row in ten.asked},
        }


_Task = tuple[str, int, dict[str, Any]]
"""`answer` and the first of a batch of questions in their order, or `place` and the number of a ten with what was drawn
for it."""


class _Answering:
    """A loaded model and the questions to it. What it is given is computed again only where answers beside it are
    missing.
    """

    def __init__(
        self,
        by: AnsweringModel,
        asked: Asked,
        results: dict[str, Any],
        keep: Callable[[str, int, Any], None] | None,
        report: Callable[..., None],
    ) -> None:
        self.by, self.asked, self.results, self._tell, self._report = by, asked, results, keep, report
        self.questions, self.rows = asked.questions, asked.rows(by.centroids is not None)
        with float32_kernels(by.kernels):
            self.model, self.tokenizer, precision = by.load()

            def preparing(_task: str, done: float, of: int | None) -> None:
                report("candidates", done, of)

            self.prepared = rank.prepare(rank.encode_answers(self.tokenizer, asked.candidates, preparing))
        self.fresh: dict[tuple[str, int], Any] = {}
        self.prompts = [chat.prompt_ids(self.tokenizer, question.messages) for question in self.questions]
        for question, prompt in zip(self.questions, self.prompts, strict=True):
            if reason := generate.too_long(self.model, prompt, by.decoding):
                raise InputError(
                    f"The description in {question.where} is too long: {reason}.", "Shorten it, or leave the row out."
                )
        self.reader = Reader(self.model, shared_opening(self.prompts))
        self.order = sorted(
            range(len(self.prompts)), key=lambda row: (self.questions[row].right is None, len(self.prompts[row]))
        )
        self._keep("precision", 0, None if precision is None else asdict(precision))

    def __call__(self, task: _Task) -> dict[tuple[str, int], Any]:
        """The answers of a task, by kind and question."""
        what, number, drawn = task
        self.results.update(drawn)
        with float32_kernels(self.by.kernels):
            if what == "answer":
                batch = self.order[number : number + TOGETHER]
                halving(len(batch), partial(self.answer, batch))
            else:
                ten = self.asked.tens[number]
                halving(len(ten.questions), partial(self.place, ten))
        fresh, self.fresh = self.fresh, {}
        return fresh

    @cached_property
    def known(self) -> new_names.KnownNames:
        """The names that are not new, in the model's tokens."""
        return new_names.known_names(self.tokenizer, self.asked.known)

    def answer(self, batch: Sequence[int], at_once: int) -> None:
        """Answer the questions of a batch, so many at once."""
        for part in _chunks(batch, at_once):
            # Nothing is read where all answers are there.
            read = cache(partial(self.reader.read, [self.prompts[row] for row in part]))
            places = {row: place for place, row in enumerate(part)}
            draws = max(1, TOGETHER // self.by.names)
            for kind, size, work in (
                ("nearest", TOGETHER, self._nearest),
                ("identify", rank.prompts_at_once(self.model), self._rank),
                ("answer", TOGETHER, self._name),
                ("sample", draws, self._draw),
                ("new", draws, partial(self._draw, new=True)),
            ):
                for chunk in _chunks([row for row in part if row in self.rows[kind]], size):
                    if not all(self._has(kind, row) for row in chunk):
                        results = work(read().some([places[row] for row in chunk]), chunk)
                        for row, result in zip(chunk, results, strict=True):
                            self._keep(kind, row, result)
                    self._report(kind)

    def place(self, ten: Ten, at_once: int) -> None:
        """Place names among ten questions, which are read so many at once, by how likely each makes them."""
        if not all(self._has("fit", row) for row in ten.asked):
            drawn = {
                row: {
                    one.name for kind in ("sample", "new") for one in _drawn(self.results.get(self.by.piece(kind, row)))
                }
                for row in ten.asked
            }
            names = sorted(set().union(*drawn.values()))
            prepared = rank.prepare(rank.encode_answers(self.tokenizer, names))
            scores: list[list[float]] = []
            for part in _chunks(ten.questions, min(at_once, rank.prompts_at_once(self.model))):
                scores += rank.score(self.reader.read([self.prompts[row] for row in part]), prepared)
            after = dict(zip(names, zip(*scores, strict=True), strict=True))
            for row, own in drawn.items():
                place = ten.questions.index(row)
                self._keep("fit", row, {name: rank_of(after[name], place) for name in sorted(own)})
        self._report("fit")

    def _rank(self, prompts: Prompts, rows: Sequence[int]) -> list[dict[str, Any]]:
        def within(_task: str, done: float, of: int | None) -> None:
            # The end is reported when the answers are kept.
            if of is not None and done < of:
                self._report("identify", len(rows) * done / of)

        return self._ranked(rows, rank.score(prompts, self.prepared, within))

    def _nearest(self, prompts: Prompts, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Rankings by the cosine of the state after a description with each answer's; without one, answers are last."""
        known = self.by.centroids
        return self._ranked(rows, known.scores(prompts.states, self.asked.candidates).tolist() if known else [])

    def _ranked(self, rows: Sequence[int], scores: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
        rankings = []
        for row, each in zip(rows, scores, strict=True):
            question = self.questions[row]
            others = {str(other): rank_of(each, right) for other, right in question.others.items()}
            rankings.append(asdict(ranking_of(each, question.right or 0, self.asked.candidates, others)))
        return rankings

    def _name(self, prompts: Prompts, _rows: Sequence[int]) -> list[str]:
        return generate.greedy_names(prompts, self.tokenizer, self.by.decoding)

    def _draw(self, prompts: Prompts, rows: Sequence[int], *, new: bool = False) -> list[list[dict[str, Any]]]:
        seeds = [self.questions[row].seed or 0 for row in rows]
        how = (prompts, self.tokenizer, self.by.decoding, self.by.names, seeds)
        drawn = new_names.sample_new(*how, self.known) if new else generate.sample(*how)
        return [[asdict(one) for one in each] for each in drawn]

    def _has(self, kind: str, row: int) -> bool:
        return self.by.piece(kind, row) in self.results

    def _keep(self, kind: str, row: int, result: Any) -> None:
        if not self._has(kind, row):
            self.results[self.by.piece(kind, row)] = self.fresh[kind, row] = result
            if self._tell is not None:
                self._tell(kind, row, result)


def _chunks(rows: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (rows[first : first + size] for first in range(0, len(rows), size))


def ranking_of(scores: Sequence[float], right: int, candidates: Sequence[str], others: dict[str, Rank]) -> Ranking:
    """The ranking of candidates by their log scores; `right` is the number of the right one, `others` as in Ranking."""
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
        results: Those of the finished pieces.
        found: How many pieces an earlier run had finished.
    """

    def __init__(self, file: Path, key: str, *, restart: bool = False) -> None:
        self.file = file
        self.results: dict[str, Any] = {}
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
        self.found = len(self.results)

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
                self.results[str(entry["piece"])] = entry.get("result")
            whole += len(line)
        if not whole and len(lines) > 1:
            raise InputError(
                f"{self.file} holds answers of an interrupted evaluation of other data, settings or weights.",
                "Finish that one, or give `restart=True` to discard its answers.",
            )
        return whole

    def keep(self, piece: str, result: Any) -> None:
        """Keep the result of a piece, a JSON value; that of a piece which is kept already stays.

        Raises:
            ToolkitError: The file cannot be written.
        """
        if piece in self.results:
            return
        try:
            self._append({"piece": piece, "result": result})
        except OSError as error:
            raise unwritable(self.file, error) from error
        self.results[piece] = result

    def _append(self, entry: dict[str, object]) -> None:
        self._open.write(json.dumps(entry, ensure_ascii=False) + "\n")
        self._open.flush()

    def close(self) -> None:
        """Keep the finished pieces for another run; without any, remove the file."""
        self._open.close()
        if not self.results:
            self.file.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the file, after the last piece."""
        self._open.close()
        self.file.unlink(missing_ok=True)
