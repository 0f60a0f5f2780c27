"""Names for creatures that a model never saw: has each the form of a name, is it new, is it this creature's alone?

`docs/metrics.md` explains each figure, its source and its limits.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from toolkit.core.names import (
    LEAST_LIKE,
    Script,
    answer_script,
    are_new,
    is_well_formed,
    keys_of,
    likeness,
    name_keys,
    near_copies,
)
from toolkit.evaluation.intervals import estimate
from toolkit.evaluation.predictions import ADAPTER, Prediction
from toolkit.evaluation.ranks import Rank, share_within

FEWEST_IN_HALF = 5
"""Creatures of each half of `unseen` from which on the halves have figures."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sampled name.

    Attributes:
        description: Id of the description.
        name: What the model said.
        stopped: Whether the model ended it, before the limit of new tokens.
        script: The expected script, as `answer_script` finds it.
        creature: Id of the described creature, by default that of the description. Several descriptions of one
            creature may well get the same name.
        fit: Rank of the description among ten by how well the name goes with each.
    """

    description: str
    name: str
    stopped: bool
    script: Script | None
    creature: str | None = None
    fit: Rank | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """The properties of one name by itself.

    Attributes:
        well_formed: See `is_well_formed`.
        known: A name of the dataset.
        new: Not a known name, nor one edit away from one.
        memorised: A name of the training split.
    """

    well_formed: bool
    known: bool
    new: bool
    memorised: bool


def judge_all(
    names: Sequence[str], known: Collection[str], training: Collection[str], scripts: Sequence[Script | None]
) -> list[Judgement]:
    """Judge names, each by itself.

    Args:
        names: The names, copies included.
        known: All answers of the dataset.
        training: The answers of its training split.
        scripts: The expected script of each name.

    Returns:
        One judgement for each name. An answer of two names is new when both are, known or memorised when either is.
    """
    known_keys, training_keys = keys_of(known), keys_of(training)
    return [
        Judgement(
            well_formed=is_well_formed(name, script),
            known=any(part in known_keys for part in name_keys(name)),
            new=new,
            memorised=any(part in training_keys for part in name_keys(name)),
        )
        for name, script, new in zip(names, scripts, are_new(names, known_keys), strict=True)
    ]


def invention(
    predictions: Mapping[str, Sequence[Prediction]],
    answers: Collection[str],
    known: Collection[str],
    training: Collection[str],
    seed: int,
    tuning: Sequence[bool] = (),
) -> dict[str, object] | None:
    """The `unseen` of `evaluation.json`; None without predictions.

    Args:
        predictions: For `unseen`, by method.
        answers: All answers of the dataset, those of `unseen` included.
        known: All names that are not inventions.
        training: The answers of `train`.
        seed: Decides the resamples, and which names likeness holds out.
        tuning: For each row, whether settings may be chosen on it: then the figures of each half are there too, if it
            has enough creatures.
    """
    if not predictions:
        return None
    script, rows = answer_script(answers), predictions[ADAPTER]
    # By number, because a dataset may give two rows one id.
    parts = {
        half: {str(number) for number, chosen in enumerate(tuning) if chosen is (half == "tuning")}
        for half in ("tuning", "final")
    }
    enough = all(len({rows[int(number)].creature for number in part}) >= FEWEST_IN_HALF for part in parts.values())
    methods: dict[str, object] = {}
    halves: dict[str, dict[str, object]] = {half: {} for half in parts if enough}
    for method, made in predictions.items():
        samples = [
            Sample(str(number), name, stopped, script, one.creature, fit)
            for number, one in enumerate(made)
            for name, stopped, fit in zip_longest(one.names, one.stopped, one.fits)
        ]
        measured = _measure(samples, known, training, seed)
        methods[method] = _figures(measured, samples, seed)
        for half, its in halves.items():
            its[method] = _figures(measured, samples, seed, parts[half])
    return {"rows": len(rows), "methods": methods, **({"halves": halves} if halves else {})}


def invention_figures(
    samples: Sequence[Sample], known: Collection[str], training: Collection[str], seed: int
) -> dict[str, object]:
    """The figures of `docs/metrics.md`, with 95 % intervals by a bootstrap over creatures.

    Args:
        samples: All names that one model gave.
        known: All answers of the dataset.
        training: The answers of its training split.
        seed: Decides the bootstrap and which names likeness holds out.

    Returns:
        `rows` (descriptions), `names` (samples), and each figure by name. Figures that cannot be measured are absent:
        whether a name is for one creature alone when there is only one, what is name-like when the training split has
        too few names, whether samples of a description differ when each has one, which of ten descriptions a name goes
        with when there are fewer creatures.
    """
    return _figures(_measure(samples, known, training, seed), samples, seed)


def _measure(
    samples: Sequence[Sample], known: Collection[str], training: Collection[str], seed: int
) -> dict[str, list[tuple[str, float]]]:
    """For each figure the values that it is the mean of, each behind its description."""
    judged = judge_all([sample.name for sample in samples], known, training, [sample.script for sample in samples])
    formed = np.array([sample.stopped and each.well_formed for sample, each in zip(samples, judged, strict=True)])
    by_sample: dict[str, Iterable[float]] = {}
    varied = []
    if len({_creature(sample) for sample in samples}) > 1:
        different = formed & _for_one_creature(samples)
        new = different & np.array([each.new for each in judged])
        if (placed := _likeness(samples, new, training, seed)) is not None:
            mean, least = placed
            by_sample |= {"invented": new & (least >= LEAST_LIKE), "likeness": mean}
        by_sample |= {"new": new, "different": different}
        varied = _varied(samples, different)
    by_sample["well_formed"] = formed
    by_sample["known"] = [each.known for each in judged]
    by_sample["memorised"] = [each.memorised for each in judged]
    ranks = [sample.fit for sample in samples if sample.fit is not None]
    if samples and len(ranks) == len(samples):
        by_sample["fits"] = share_within(ranks, 1, 1)
    descriptions = [sample.description for sample in samples]
    measured = {name: list(zip(descriptions, map(float, each), strict=True)) for name, each in by_sample.items()}
    return measured | ({"varied": varied} if varied else {})


def _figures(
    measured: Mapping[str, Sequence[tuple[str, float]]],
    samples: Sequence[Sample],
    seed: int,
    part: Collection[str] | None = None,
) -> dict[str, object]:
    """The means with their intervals, over all descriptions or those of a part."""
    creatures = {
        sample.description: _creature(sample) for sample in samples if part is None or sample.description in part
    }
    names = sum(sample.description in creatures for sample in samples)
    figures: dict[str, object] = {"rows": len(creatures), "names": names}
    for name, values in measured.items():
        if chosen := [(value, creatures[description]) for description, value in values if description in creatures]:
            figures[name] = estimate([value for value, _ in chosen], [creature for _, creature in chosen], seed)
    return figures


def _creature(sample: Sample) -> str:
    return sample.description if sample.creature is None else sample.creature


def _for_one_creature(samples: Sequence[Sample]) -> NDArray[np.bool_]:
    """For each sample, whether no other creature was given its name, one of its two names, or a near copy of one."""
    given: defaultdict[str, set[str]] = defaultdict(set)
    for sample in samples:
        for part in name_keys(sample.name):
            given[part].add(_creature(sample))
    shared = {part for part, creatures in given.items() if len(creatures) > 1}
    shared |= {one for one, other in near_copies(given, given) if given[one] != given[other]}
    return np.array([shared.isdisjoint(name_keys(sample.name)) for sample in samples])


def _likeness(
    samples: Sequence[Sample], new: NDArray[np.bool_], training: Collection[str], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The mean and the least percentile of each new sample's names, 0 for the others; None when not measurable."""
    answers = sorted({sample.name for sample, is_new in zip(samples, new, strict=True) if is_new})
    shares = likeness(answers, training, seed)
    if shares is None:
        return None
    found = dict(zip(answers, shares, strict=True))
    each = [found[sample.name] if is_new else [0.0] for sample, is_new in zip(samples, new, strict=True)]
    return np.array([sum(parts) / len(parts) for parts in each]), np.array([min(parts) for parts in each])


def _varied(samples: Sequence[Sample], different: NDArray[np.bool_]) -> list[tuple[str, float]]:
    """Each description of several samples, and the share of pairs of samples that are two names of its creature's own
    (Simpson 1949, without bias by the number of samples)."""
    own: defaultdict[str, list[str | None]] = defaultdict(list)
    for sample, counts in zip(samples, different, strict=True):
        own[sample.description].append(" ".join(name_keys(sample.name)) if counts else None)
    shares = []
    for description, names in own.items():
        if len(names) > 1:
            copies = Counter(name for name in names if name is not None)
            pairs = copies.total() ** 2 - sum(count**2 for count in copies.values())
            shares.append((description, pairs / (len(names) * (len(names) - 1))))
    return shares
