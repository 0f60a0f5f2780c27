"""Names for creatures that a model never saw: has each the form of a name, is it new, is it this creature's alone?

`docs/metrics.md` explains each figure, its source and its limits.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

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
from toolkit.evaluation.intervals import Estimate, estimate
from toolkit.evaluation.predictions import ADAPTER, Prediction


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
    """

    description: str
    name: str
    stopped: bool
    script: Script | None
    creature: str | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """The properties of one name by itself.

    Attributes:
        well_formed: See `is_well_formed`.
        new: Not a known name, nor one edit away from one.
        memorised: A name of the training split.
    """

    well_formed: bool
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
        One judgement for each name. An answer of two names is new when both are, memorised when either is.
    """
    training_keys = keys_of(training)
    return [
        Judgement(
            well_formed=is_well_formed(name, script),
            new=new,
            memorised=any(part in training_keys for part in name_keys(name)),
        )
        for name, script, new in zip(names, scripts, are_new(names, keys_of(known)), strict=True)
    ]


def invention(
    predictions: Mapping[str, Sequence[Prediction]],
    answers: Collection[str],
    known: Collection[str],
    training: Collection[str],
    seed: int,
) -> dict[str, object] | None:
    """The `unseen` of `evaluation.json`; None without predictions.

    Args:
        predictions: For `unseen`, by method.
        answers: All answers of the dataset, those of `unseen` included.
        known: All names that are not inventions.
        training: The answers of `train`.
        seed: Decides the resamples, and which names likeness holds out.
    """
    if not predictions:
        return None
    script = answer_script(answers)
    methods = {}
    for method, made in predictions.items():
        samples = [
            # By number, because a dataset may give two rows one id.
            Sample(str(number), name, stopped, script, one.creature)
            for number, one in enumerate(made)
            for name, stopped in zip(one.names, one.stopped, strict=True)
        ]
        methods[method] = invention_figures(samples, known, training, seed)
    return {"rows": len(predictions[ADAPTER]), "methods": methods}


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
        too few names, whether samples of a description differ when each has one.
    """
    figures: dict[str, object] = {"rows": len({sample.description for sample in samples}), "names": len(samples)}
    if not samples:
        return figures
    judged = judge_all([sample.name for sample in samples], known, training, [sample.script for sample in samples])
    creatures = [_creature(sample) for sample in samples]
    formed = np.array([sample.stopped and each.well_formed for sample, each in zip(samples, judged, strict=True)])
    if len(set(creatures)) > 1:
        different = formed & _for_one_creature(samples)
        new = different & np.array([each.new for each in judged])
        likeness = _likeness(samples, new, training, seed)
        if likeness is not None:
            mean, least = likeness
            figures["invented"] = _figure(new & (least >= LEAST_LIKE), creatures, seed)
            figures["likeness"] = _figure(mean, creatures, seed)
        figures["new"] = _figure(new, creatures, seed)
        figures["different"] = _figure(different, creatures, seed)
        varied = _varied(samples, different)
        if varied:
            figures["varied"] = _figure([share for _, share in varied], [creature for creature, _ in varied], seed)
    figures["well_formed"] = _figure(formed, creatures, seed)
    figures["memorised"] = _figure([each.memorised for each in judged], creatures, seed)
    return figures


def _figure(values: Iterable[float], creatures: Sequence[str], seed: int) -> Estimate:
    return estimate([float(value) for value in values], creatures, seed)


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
    """For each description of several samples: its creature, and the share of pairs of samples that are two names of
    this creature's own (Simpson 1949, without bias by the number of samples)."""
    own: defaultdict[str, list[str | None]] = defaultdict(list)
    creature: dict[str, str] = {}
    for sample, counts in zip(samples, different, strict=True):
        creature[sample.description] = _creature(sample)
        own[sample.description].append(" ".join(name_keys(sample.name)) if counts else None)
    shares = []
    for description, names in own.items():
        if len(names) > 1:
            copies = Counter(name for name in names if name is not None)
            pairs = copies.total() ** 2 - sum(count**2 for count in copies.values())
            shares.append((creature[description], pairs / (len(names) * (len(names) - 1))))
    return shares
