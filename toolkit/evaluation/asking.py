"""The rows that an evaluation asks about, and what models and baselines answer: predictions, and no figures yet."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from toolkit.core.errors import InputError
from toolkit.core.layout import SPLITS
from toolkit.core.recipe import EvaluationSettings
from toolkit.data.dataset import LocatedDataset, answer_of, description_of, read_split
from toolkit.evaluation import baselines, encoder
from toolkit.evaluation.answers import Questions, Reader, Row, Say, shuffled_places
from toolkit.evaluation.predictions import Prediction
from toolkit.evaluation.ranks import Place

SAMPLED_TEST_ROWS = 8
NAMES = ("name_en", "name_ko")


@dataclass(frozen=True, slots=True)
class Asked:
    """The rows of a dataset that an evaluation reads.

    Attributes:
        train: What baselines may look at.
        test: Known creatures by descriptions never seen: they are identified.
        unseen: Creatures never seen: names are invented for them.
        known: All distinct answers, in order: the candidates.
        names: The answers, and the creatures' names in other languages: none of them is an invention.
    """

    train: list[Row]
    test: list[Row]
    unseen: list[Row]
    known: list[str]
    names: list[str]

    @property
    def training_answers(self) -> list[str]:
        """The answers of `train`."""
        return [answer_of(row) for row in self.train]

    @property
    def creatures(self) -> list[str]:
        """What each row of `test` is about."""
        return [_creature(row) for row in self.test]

    @property
    def shown(self) -> list[tuple[str, Row]]:
        """The rows of `samples.jsonl`: the first of `test` and all of `unseen`, none of them selected."""
        return [("test", row) for row in self.test[:SAMPLED_TEST_ROWS]] + [("unseen", row) for row in self.unseen]


def read_asked(dataset: LocatedDataset, settings: EvaluationSettings) -> Asked:
    """The rows of a dataset, as many as the settings want.

    Raises:
        InputError: The dataset is damaged, or has neither `test` nor `unseen`.
    """
    splits = {split: read_split(dataset, split) for split in SPLITS}
    test, unseen = splits["test"][: settings.max_test], splits["unseen"][: settings.max_unseen]
    if not test and not unseen:
        raise InputError(f"The dataset {dataset.id} has neither a test nor an unseen split.", "Build one that has.")
    known = sorted({answer_of(row) for split in splits.values() for row in split})
    named = (row.get(column) for split in splits.values() for row in split for column in NAMES)
    others = {name for name in named if isinstance(name, str) and name}
    return Asked(splits["train"], test, unseen, known, sorted(others.union(known)))


def model_predictions(reader: Reader, asked: Asked, questions: Questions) -> list[Prediction]:
    """What a model answers to `test` and `unseen`; the adapter also with samples for the first rows of `test`.

    Raises:
        InputError: A row is too long for the model, or its probabilities are no numbers.
    """
    reader.check_lengths("test", asked.test)
    reader.check_lengths("unseen", asked.unseen)
    shown = min(len(asked.test), SAMPLED_TEST_ROWS) if reader.method == "adapter" else 0
    samples = reader.samples(range(shown)) if shown else []
    places = shuffled_places(rankings := reader.rankings(), questions.partners)
    greedy = reader.greedy([row["messages"][:-1] for row in asked.test], "test")
    made = []
    for number, row in enumerate(asked.test):
        ranked, drawn = rankings[number], samples[number] if number < shown else []
        made.append(
            _about(
                reader.method,
                "test",
                number,
                row,
                place=ranked.place.mean,
                tied=ranked.place.tied,
                log_likelihood=ranked.log_likelihood,
                confidence=ranked.confidence,
                top=ranked.top,
                log_likelihoods=ranked.log_likelihoods,
                shuffled_places=[place.mean for place in places[number]],
                shuffled_tied=[place.tied for place in places[number]],
                greedy=greedy[number],
                names=[one.name for one in drawn],
                stopped=[one.stopped for one in drawn],
            )
        )
    first = len(asked.shown) - len(asked.unseen)
    greedy = reader.greedy([row["messages"][:-1] for row in asked.unseen], "unseen")
    samples = reader.samples(range(first, len(asked.shown)))
    for number, (row, drawn) in enumerate(zip(asked.unseen, samples, strict=True)):
        names, stopped = [one.name for one in drawn], [one.stopped for one in drawn]
        made.append(_about(reader.method, "unseen", number, row, greedy=greedy[number], names=names, stopped=stopped))
    return made


def baseline_predictions(asked: Asked, wanted: Sequence[str], sentences: str | None, progress: Say) -> list[Prediction]:
    """Places that the baselines give to the right answers of `test`; none without descriptions to learn from.

    Args:
        asked: The rows.
        wanted: Baselines by name; others are left out.
        sentences: The sentence encoder, None for the usual one.
        progress: Called with the baseline, how many rows are done, and of how many.
    """
    if not asked.test or not asked.train:
        return []
    train = [description_of(row) for row in asked.train], asked.training_answers
    test = [description_of(row) for row in asked.test], [answer_of(row) for row in asked.test]
    count = len(asked.known)
    ways: dict[str, Callable[[], list[Place]]] = {
        "tfidf": lambda: baselines.tfidf_ranks(*train, *test, count),
        "tfidf_centroid": lambda: baselines.centroid_ranks(*train, *test, count),
        "encoder": lambda: encoder.encoder_ranks(sentences or encoder.DEFAULT_ENCODER, *train, *test, count),
        "frequent": lambda: baselines.frequent_ranks(train[1], test[1], count),
    }
    made = []
    for method in (name for name in ways if name in wanted):
        progress(method, 0, len(asked.test))
        for number, (row, place) in enumerate(zip(asked.test, ways[method](), strict=True)):
            made.append(_about(method, "test", number, row, place=place.mean, tied=place.tied))
        progress(method, len(asked.test), len(asked.test))
    return made


def _about(method: str, split: str, number: int, row: Row, **answers: Any) -> Prediction:
    return Prediction(
        method,
        split,
        str(number if row.get("id") is None else row["id"]),
        _creature(row),
        answer_of(row),
        _attributes(row),
        **answers,
    )


def _creature(row: Row) -> str:
    creature = row.get("creature")
    return answer_of(row) if creature is None or creature == "" else str(creature)


def _attributes(row: Row) -> str:
    """What a row knows of its creature, as the JSON text of an object: sources have that, or a struct, or anything."""
    known = row.get("attributes")
    try:
        known = json.loads(known) if isinstance(known, str) else known
    except (ValueError, RecursionError):
        known = None
    text = json.dumps(known, ensure_ascii=False, default=str) if isinstance(known, dict) else "{}"
    # JSON may spell half a character, which no file holds.
    return text.encode(errors="replace").decode()
