"""A dataset and methods in; every answer to every row out, as `predictions.parquet`, from which all figures follow."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.core import Progress
from toolkit.core.errors import InputError
from toolkit.core.layout import BY_LIKELIHOOD, NEW_NAMES, PREDICTIONS, SPLITS
from toolkit.core.recipe import EvaluationSettings
from toolkit.data.dataset import LocatedDataset, Row, answer_of, description_of, names_of, read_split
from toolkit.evaluation import baselines
from toolkit.evaluation.answers import Answer, Asked, Question, Ranking, Ten, ranking_of
from toolkit.evaluation.ranks import Rank, rank_of
from toolkit.model.encoder import Encoder
from toolkit.model.generate import Generated

if TYPE_CHECKING:
    import pyarrow as pa

ADAPTER = "adapter"
SAMPLED_TEST_ROWS = 8
# Descriptions among which a name finds its own.
TEN = 10


@dataclass(slots=True)
class Prediction:
    """What one method answered to one row of the dataset; None or empty where it was not asked.

    Attributes:
        method: `adapter`, `base`, a baseline or another adapter; `adapter, new names` has the names that are new by
            construction, `adapter, by likelihood` the other ranking of an adapter that identifies by centroids.
        split: `test` or `unseen`.
        id: Of the row.
        creature: What the row is about; rows of one creature are not independent.
        answer: The right answer.
        attributes: JSON text, what the dataset knows of the creature.
        rank: Of the right answer among the candidates.
        log_likelihood: Of the right answer with its end of turn, in nats.
        confidence: Probability of the first candidate among all candidates.
        top: The first candidates, with their `log_likelihoods`.
        shuffled_ranks: Of the right answer when the model reads descriptions of other creatures.
        greedy: The likeliest name, token by token.
        names: Sampled names.
        stopped: For each of them, whether the model ended its turn by itself.
        fits: For each of them, the rank of the description that it was drawn for among ten.
    """

    method: str
    split: str
    id: str
    creature: str
    answer: str
    attributes: str
    rank: Rank | None = None
    log_likelihood: float | None = None
    confidence: float | None = None
    top: list[str] = field(default_factory=list)
    log_likelihoods: list[float] = field(default_factory=list)
    shuffled_ranks: list[Rank] = field(default_factory=list)
    greedy: str | None = None
    names: list[str] = field(default_factory=list)
    stopped: list[bool] = field(default_factory=list)
    fits: list[Rank] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class EvaluationRows:
    """The rows of a dataset that an evaluation reads.

    Attributes:
        train: Rows that baselines may read.
        test: Known creatures with new descriptions, to identify.
        unseen: Creatures that training never saw, to invent names for.
        candidates: All distinct answers, in order.
        names: The answers, and the creatures' names in other languages: none of them is an invention.
        tuning: For each row of `unseen`, whether it is in the half on which settings may be chosen.
    """

    train: list[Row]
    test: list[Row]
    unseen: list[Row]
    candidates: list[str]
    names: list[str]
    tuning: list[bool]

    @property
    def training_answers(self) -> list[str]:
        """The answers of `train`."""
        return [answer_of(row) for row in self.train]

    @property
    def creatures(self) -> list[str]:
        """The creature of each row of `test`."""
        return [_creature(row) for row in self.test]

    @property
    def shown(self) -> list[tuple[str, Row]]:
        """The rows of `samples.jsonl`, with their split: the first of `test` and all of `unseen`, without selection."""
        return [("test", row) for row in self.test[:SAMPLED_TEST_ROWS]] + [("unseen", row) for row in self.unseen]


def read_rows(dataset: LocatedDataset, settings: EvaluationSettings, *, choosing: bool = False) -> EvaluationRows:
    """The rows of a dataset, as many as the settings allow.

    Args:
        dataset: The dataset.
        settings: How many rows at most.
        choosing: Put the rows of `validation` in the place of `test`, and leave `unseen` out: for choosing settings.

    Raises:
        InputError: The dataset is damaged, or has no rows to measure on.
    """
    splits = {split: read_split(dataset, split) for split in SPLITS}
    test = splits["validation" if choosing else "test"][: settings.max_test]
    unseen = [] if choosing else splits["unseen"][: settings.max_unseen]
    if not test and not unseen:
        there = f"its splits are {', '.join(dataset.files())}"
        wanted = "validation" if choosing else "test or unseen"
        raise InputError(f"The dataset {dataset.id} has no rows in {wanted}; {there}.", "Name a dataset that has.")
    rows = [row for split in splits.values() for row in split]
    half = tuning_families(splits["unseen"])
    tuning = [_family(row) in half for row in unseen]
    return EvaluationRows(splits["train"], test, unseen, sorted(set(map(answer_of, rows))), names_of(rows), tuning)


def tuning_families(unseen: Sequence[Row]) -> set[str]:
    """The half of the families of `unseen` on which settings may be chosen: by name, the first, the third and so on."""
    return set(sorted({_family(row) for row in unseen})[::2])


def model_predictions(
    method: str,
    answers_to: Callable[[Asked], Sequence[Answer]],
    rows: EvaluationRows,
    partners: Sequence[Sequence[int]],
    seed: int,
) -> list[Prediction]:
    """A model's answers to `test` and `unseen`; the adapter's also with samples for the first rows of `test`.

    Args:
        method: The model's name.
        answers_to: Asks it.
        rows: What it is asked about.
        partners: For each row of `test`, the rows whose descriptions its answer is also ranked after.
        seed: Decides the sampled names, with the position of a row among those of `samples.jsonl`.

    Raises:
        InputError: A row is too long for the model, or its probabilities are NaN.
    """
    numbers = {answer: number for number, answer in enumerate(rows.candidates)}
    right = [numbers[answer_of(row)] for row in rows.test]
    others: list[dict[int, int]] = [{} for _ in rows.test]
    for number, found in enumerate(partners):
        for partner in found:
            others[partner][number] = right[number]
    first = min(len(rows.test), SAMPLED_TEST_ROWS)
    shown = first if method == ADAPTER else 0
    questions = [
        Question(
            row["messages"][:-1],
            right[number],
            others[number],
            seed + number if number < shown else None,
            where=f"row {number} of test",
        )
        for number, row in enumerate(rows.test)
    ]
    trained = method != "base"
    questions += [
        Question(row["messages"][:-1], seed=seed + first + place, new=trained, where=f"row {place} of unseen")
        for place, row in enumerate(rows.unseen)
    ]
    tens = tens_of([_creature(row) for row in rows.unseen], seed, len(rows.test)) if trained else []
    answers = answers_to(Asked(questions, rows.candidates, rows.names, tens))
    made, likely, new = [], [], []
    for number, (row, answer) in enumerate(zip([*rows.test, *rows.unseen], answers, strict=True)):
        split, place = ("test", number) if number < len(rows.test) else ("unseen", number - len(rows.test))
        ranked: dict[str, Any] = {}
        if (ranking := answer.identified) is not None:
            after = [answers[partner].identified for partner in partners[number]]
            shuffled = [each.others[str(number)] for each in after if each is not None]
            ranked = {**_columns_of(ranking), "shuffled_ranks": shuffled}
        if answer.nearest is not None and answer.ranking is not None:
            likely.append(_about(f"{method}{BY_LIKELIHOOD}", split, place, row, **_columns_of(answer.ranking)))
        sampled, made_new = (_sampled(drawn, answer.fits) for drawn in (answer.drawn, answer.new))
        made.append(_about(method, split, place, row, greedy=answer.greedy, **sampled, **ranked))
        if answer.new:
            new.append(_about(f"{method}{NEW_NAMES}", split, place, row, **made_new))
    return made + likely + new


def _columns_of(ranking: Ranking) -> dict[str, Any]:
    return {each.name: getattr(ranking, each.name) for each in fields(Ranking) if each.name != "others"}


def _sampled(drawn: Sequence[Generated], fits: Mapping[str, Rank]) -> dict[str, Any]:
    ranks = [fits[one.name] for one in drawn if one.name in fits]
    return {"names": [one.name for one in drawn], "stopped": [one.stopped for one in drawn], "fits": ranks}


def tens_of(creatures: Sequence[str], seed: int, first: int = 0) -> list[Ten]:
    """Rows in tens of different creatures, drawn by the seed; none where there are fewer creatures than ten.

    Args:
        creatures: The creature of each row.
        seed: Decides which rows stand beside each other.
        first: Number of the first row.
    """
    if len(set(creatures)) < TEN:
        return []
    order = np.random.default_rng(seed).permutation(len(creatures)).tolist()
    tens, waiting = [], order
    while waiting:
        first_rows: dict[str, int] = {}
        # Those whose turn was before fill up.
        for row in [*waiting, *order]:
            first_rows.setdefault(creatures[row], row)
        ten = list(first_rows.values())[:TEN]
        asked, waiting = [row for row in waiting if row in ten], [row for row in waiting if row not in ten]
        tens.append(Ten([first + row for row in ten], [first + row for row in asked]))
    return tens


def encoder_predictions(
    method: str, encoder: Encoder, rows: EvaluationRows, partners: Sequence[Sequence[int]]
) -> list[Prediction]:
    """The predictions of a sentence encoder for `test`; arguments as of `model_predictions`.

    Raises:
        InputError: There are no rows to identify, or it knows none of the candidates.
    """
    if not rows.test:
        raise InputError("The dataset has no rows in test to identify.", "Name a dataset that has.")
    if set(encoder.centroids.answers).isdisjoint(rows.candidates):
        raise InputError("The encoder knows no name of the dataset.", "Name the dataset that it was trained on.")
    numbers = {answer: number for number, answer in enumerate(rows.candidates)}
    scores = encoder.scores([description_of(row) for row in rows.test], rows.candidates).tolist()
    made = []
    for number, row in enumerate(rows.test):
        right = numbers[answer_of(row)]
        ranking = _columns_of(ranking_of(scores[number], right, rows.candidates, {}))
        shuffled = [rank_of(scores[partner], right) for partner in partners[number]]
        made.append(_about(method, "test", number, row, **ranking, shuffled_ranks=shuffled))
    return made


def baseline_predictions(
    rows: EvaluationRows, wanted: Sequence[str], encoder: str | None, progress: Progress
) -> list[Prediction]:
    """Ranks that the baselines give to the right answers of `test`; none without descriptions to learn from.

    Args:
        rows: The rows.
        wanted: Baselines by name; others are left out.
        encoder: The sentence encoder, None for the default one.
        progress: Called with the baseline.
    """
    if not rows.test or not rows.train:
        return []
    train, test = (
        baselines.Described([description_of(row) for row in part], [answer_of(row) for row in part])
        for part in (rows.train, rows.test)
    )
    ways: dict[str, Callable[[baselines.Described, baselines.Described, int], list[Rank]]] = {
        "tfidf": baselines.tfidf_ranks,
        "tfidf_centroid": baselines.centroid_ranks,
        "encoder": partial(baselines.encoder_ranks, encoder),
        "frequent": baselines.frequent_ranks,
    }
    made = []
    for method in (name for name in ways if name in wanted):
        progress(method, 0, len(rows.test))
        ranks = ways[method](train, test, len(rows.candidates))
        for number, (row, rank) in enumerate(zip(rows.test, ranks, strict=True)):
            made.append(_about(method, "test", number, row, rank=rank))
        progress(method, len(rows.test), len(rows.test))
    return made


def _about(method: str, split: str, number: int, row: Row, **answers: Any) -> Prediction:
    row_id = str(number if row.get("id") is None else row["id"])
    return Prediction(method, split, row_id, _creature(row), answer_of(row), _attributes(row), **answers)


def _creature(row: Row) -> str:
    creature = row.get("creature")
    return answer_of(row) if creature is None or creature == "" else str(creature)


def _family(row: Row) -> str:
    family = row.get("family")
    return _creature(row) if family is None or family == "" else str(family)


def _attributes(row: Row) -> str:
    """What a row knows of its creature, as the JSON text of an object: sources have that, or a struct, or any text."""
    known = row.get("attributes")
    try:
        known = json.loads(known) if isinstance(known, str) else known
    except ValueError:
        known = None
    return json.dumps(known, ensure_ascii=False, default=str) if isinstance(known, dict) else "{}"


def _schema() -> pa.Schema:
    """The file's columns: `place` and `tied` are the rank, `shuffled_places` and `shuffled_tied` the shuffled ranks,
    `fit_places` and `fit_tied` those of the names.
    """
    import pyarrow as pa

    text, number, count = pa.string(), pa.float64(), pa.int64()
    single = dict.fromkeys(("method", "split", "id", "creature", "answer", "attributes"), text)
    single |= {"place": number, "tied": count, "log_likelihood": number, "confidence": number}
    several = {"top": text, "log_likelihoods": number, "shuffled_places": number, "shuffled_tied": count}
    several |= {"fit_places": number, "fit_tied": count}
    sampled = {"greedy": text, "names": pa.list_(text), "stopped": pa.list_(pa.bool_())}
    return pa.schema(single | {column: pa.list_(kind) for column, kind in several.items()} | sampled)


def write_predictions(folder: Path, predictions: Sequence[Prediction]) -> None:
    """Write `predictions.parquet`: a row for each method and row of the dataset, in the order given."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    lines = []
    for one in predictions:
        place, tied = one.rank or (None, None)
        line = asdict(one) | {"place": place, "tied": tied}
        for name, ranks in (("shuffled", one.shuffled_ranks), ("fit", one.fits)):
            line |= {f"{name}_places": [rank.mean for rank in ranks], f"{name}_tied": [rank.tied for rank in ranks]}
        lines.append(line)
    pq.write_table(pa.Table.from_pylist(lines, _schema()), folder / PREDICTIONS, compression="zstd")


def read_predictions(file: Path) -> list[Prediction]:
    """The predictions in a `predictions.parquet`; before 0.5.0 there were no `fits`.

    Raises:
        InputError: Another version of the toolkit wrote it, with other columns.
    """
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    columns, new = set(table.column_names), {"fit_places", "fit_tied"}
    if columns | new != set(_schema().names):
        raise InputError(f"{file} was written by another version of pkt.", "Run `pkt evaluate` again.")
    predictions = []
    for line in table.to_pylist():
        place, tied = line.pop("place"), line.pop("tied")
        shuffled, fits = (
            [Rank(*each) for each in zip(line.pop(f"{name}_places", ()), line.pop(f"{name}_tied", ()), strict=True)]
            for name in ("shuffled", "fit")
        )
        rank = None if place is None else Rank(place, tied)
        predictions.append(Prediction(**line, rank=rank, shuffled_ranks=shuffled, fits=fits))
    return predictions
