"""Figures of ranked answers with honest intervals: means, differences, calibration, the control by other descriptions.

Knows nothing of models: places, answers, confidences.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from toolkit.evaluation.intervals import FEW_GROUPS, Numbers, bootstrap_mean
from toolkit.evaluation.ranks import Place, reciprocals, share_within

HITS = {"top1": 1, "top5": 5}
# What an adapter that reads may keep, under descriptions of other creatures, of its advantage over chance.
KEPT_AT_MOST = 0.5
SMALLEST_GROUP = 5
OTHER = "other"
ROWS_OF_A_BIN = 20


def figure(
    values: Sequence[float],
    groups: Sequence[Hashable],
    seed: int,
    bounds: tuple[float, float] = (0.0, 1.0),
    *,
    rare_highs: bool = False,
) -> dict[str, Any]:
    """The mean of `values` as `value`, the ends of its interval as `low` and `high`, and the number of rows as `n`."""
    low, high = bootstrap_mean(values, groups, seed, bounds=bounds, rare_highs=rare_highs)
    return {"value": float(np.mean(values)), "low": low, "high": high, "n": len(values)}


def identification_figures(
    places: Sequence[Place], groups: Sequence[Hashable], seed: int, exact: Sequence[bool] | None = None
) -> dict[str, Any]:
    """`top1`, `top5` and `mrr` (mean reciprocal rank) of the right answers' places, and `exact` where it is given.

    Args:
        places: The right answer's place for each row, at least one.
        groups: The creature of each row.
        seed: Decides the resamples.
        exact: Whether the name that a model wrote by itself is the right one, for each row.
    """
    figures = {
        name: figure(list(values), groups, seed, rare_highs=name == "mrr") for name, values in _scores(places).items()
    }
    return figures if exact is None else figures | {"exact": figure(list(map(float, exact)), groups, seed)}


def _scores(places: Sequence[Place]) -> dict[str, Numbers]:
    """What each row adds to each figure, `[rows]`."""
    return {name: share_within(places, 1, last) for name, last in HITS.items()} | {"mrr": reciprocals(places)}


def difference(
    values_a: Sequence[float], values_b: Sequence[float], groups: Sequence[Hashable], seed: int
) -> dict[str, Any]:
    """How much larger the mean of `values_a` is than that of `values_b`, row by row; both lie between 0 and 1."""
    a, b = np.asarray(values_a, dtype=float), np.asarray(values_b, dtype=float)
    # What differs by the rounding of a mean alone is the same.
    return figure(list(np.where(np.isclose(a, b, rtol=0, atol=1e-12), 0.0, a - b)), groups, seed, (-1.0, 1.0))


def differences(
    places_a: Sequence[Place], places_b: Sequence[Place], groups: Sequence[Hashable], seed: int
) -> dict[str, Any]:
    """How much larger `top1`, `top5` and `mrr` are for `places_a` than for `places_b` of the same rows."""
    a, b = _scores(places_a), _scores(places_b)
    return {name: difference(list(a[name]), list(b[name]), groups, seed) for name in a}


def calibration(confidences: Sequence[float], right: Sequence[float], bins: int = 10) -> dict[str, Any] | None:
    """Whether a model is right as often as it is sure of its first answer.

    Args:
        confidences: Probability of the first answer among all candidates, for each row.
        right: Whether it was the right one, 0 or 1; between them where several share the first place.
        bins: Into how many bins of equally many rows at most; fewer where a bin would have less than twenty. Rows of
            equal confidence stay together.

    Returns:
        `bins` from the least sure to the surest (`low` and `high` are the confidences of their first and last row);
        `error`, the expected calibration error (Guo et al. 2017); `brier`, the mean squared distance of confidence and
        outcome (Brier 1950). None without rows.
    """
    if not len(confidences):
        return None
    sure, hits = np.asarray(confidences, dtype=float), np.asarray(right, dtype=float)
    # Small bins make an error out of chance. Each bin but the first begins at an edge.
    bins = max(1, min(bins, len(sure) // ROWS_OF_A_BIN))
    edges = np.unique(np.sort(sure)[np.arange(1, bins) * len(sure) // bins])
    numbers = np.searchsorted(edges, sure, side="right")
    parts = [numbers == number for number in np.unique(numbers)]
    return {
        "bins": [
            {
                "low": float(sure[part].min()),
                "high": float(sure[part].max()),
                "rows": int(part.sum()),
                "confidence": float(sure[part].mean()),
                "accuracy": float(hits[part].mean()),
            }
            for part in parts
        ],
        "error": float(sum(abs((sure[part] - hits[part]).sum()) for part in parts) / len(sure)),
        "brier": float((hits * (1 - sure) ** 2 + (1 - hits) * sure**2).mean()),
    }


def confusions(answers: Sequence[str], said: Sequence[str], most: int = 10) -> list[dict[str, Any]]:
    """The most frequent wrong first answers: the right `answer`, what was `said`, and in how many `rows`."""
    wrong = Counter(pair for pair in zip(answers, said, strict=True) if pair[0] != pair[1])
    ordered = sorted(wrong.items(), key=lambda item: (-item[1], item[0]))
    return [{"answer": answer, "said": other, "rows": rows} for (answer, other), rows in ordered[:most]]


def place_counts(places: Sequence[Place], candidates: int | None = None) -> list[dict[str, float]]:
    """How many rows have their right answer at place 1, 2 to 5, 6 to 10, 11 to 20, 21 to 50, and so on.

    A row whose answer shares places counts in parts, and the sum of such parts is no whole number.

    Args:
        places: The right answer's place for each row.
        candidates: The last place there is; by default the last that a row has.
    """
    last = candidates or max((place.above + place.tied for place in places), default=1)
    # Thirds and sevenths add up to a whole number but for their rounding.
    counted = ((first, end, round(float(share_within(places, first, end).sum()), 9)) for first, end in _ranges(last))
    return [
        {"from": first, "to": end, "rows": int(rows) if rows.is_integer() else rows} for first, end, rows in counted
    ]


def _ranges(last: int) -> Iterator[tuple[int, int]]:
    ends = itertools.chain([1], (step * 10**power for power in itertools.count() for step in (5, 10, 20)))
    first = 1
    while first <= last:
        end = min(next(ends), last)
        yield first, end
        first = end + 1


def groups_of(attributes: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[int]]]:
    """Which rows belong together by what their attributes say.

    Args:
        attributes: `generation` and `types`, the first of which counts, for each row; a row may lack them.

    Returns:
        `generation` and `type` -> label -> row numbers, in the order of the labels. Labels of fewer than five rows are
        one group, `other`, the last. A kind that does not tell rows apart is left out.
    """
    labels: dict[str, list[str | None]] = {
        "generation": [_label(known.get("generation")) for known in attributes],
        "type": [_label(_first(known.get("types"))) for known in attributes],
    }
    grouped = {kind: _grouped(found) for kind, found in labels.items()}
    return {kind: groups for kind, groups in grouped.items() if len(groups) > 1}


def _first(values: Any) -> Any:
    return values[0] if isinstance(values, list) and values else None


def _label(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and str(value) else None


def _grouped(labels: Sequence[str | None]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    counted = Counter(labels)
    for number, label in enumerate(labels):
        if label is not None:
            rows.setdefault(label if counted[label] >= SMALLEST_GROUP else OTHER, []).append(number)
    return {label: rows[label] for label in sorted(rows, key=lambda label: (label == OTHER, _natural(label)))}


def _natural(label: str) -> tuple[int, str]:
    return (int(label), "") if label.isdecimal() and len(label) < 10 else (10**9, label)


def shuffled_partners(creatures: Sequence[str], seed: int, partners: int = 20) -> list[list[int]]:
    """Rows of other creatures, whose descriptions stand in for each row's own.

    All rows are walked in one random order, and each is paired with the one that is so many steps further; each
    number of steps uses every row once.

    Args:
        creatures: The creature of each row.
        seed: Decides the order.
        partners: How many a row gets, where there are as many rows of other creatures.

    Returns:
        Row numbers for each row, none twice.
    """
    names: dict[str, int] = {}
    owners = np.array([names.setdefault(creature, len(names)) for creature in creatures])
    generator = np.random.default_rng(seed)
    count = len(owners)
    order = generator.permutation(count)
    there = count - np.bincount(owners, minlength=1)[owners] if count else owners
    lacking = np.minimum(there, partners)
    # By position in the order; rows that have enough no longer look.
    looking, found = np.flatnonzero(lacking[order]), [list[int]() for _ in owners]
    for steps in generator.permutation(np.arange(1, count)):
        rows, others = order[looking], order[(looking + steps) % count]
        different = owners[rows] != owners[others]
        for row, other in zip(rows[different].tolist(), others[different].tolist(), strict=True):
            found[row].append(other)
        lacking[rows[different]] -= 1
        looking = looking[lacking[rows] > 0]
        if not len(looking):
            break
    return found


def reads(
    places: Sequence[Place],
    shuffled_places: Sequence[Sequence[Place]],
    groups: Sequence[Hashable],
    candidates: int,
    seed: int,
) -> dict[str, Any] | None:
    """Whether answers come from the description: whether the right one falls back when another creature is described.

    An adapter reads when its mean reciprocal rank is surely (95 %) higher than under other descriptions, and most of
    what it is above chance is lost there. Knowing the frequent names, or those of training, is no reading.

    Args:
        places: The right answer's place for each row.
        shuffled_places: The place of the same answer under each description of `shuffled_partners`, for each row.
        groups: The creature of each row.
        candidates: How many answers compete.
        seed: Decides the resamples.

    Returns:
        `figures` of the right answer under other descriptions, `difference` (the adapter minus that) and `reads`, None
        with too few creatures to tell. None where no row has a partner.
    """
    kept = [number for number, found in enumerate(shuffled_places) if len(found)]
    if not kept:
        return None
    own = _scores([places[number] for number in kept])
    others = _mean_scores([shuffled_places[number] for number in kept])
    rows = [groups[number] for number in kept]
    compared = {name: difference(list(own[name]), list(others[name]), rows, seed) for name in own}
    chance = sum(1 / place for place in range(1, candidates + 1)) / candidates
    lost = others["mrr"].mean() - chance <= KEPT_AT_MOST * (own["mrr"].mean() - chance)
    return {
        "figures": {name: figure(list(values), rows, seed) for name, values in others.items()},
        "difference": compared,
        "reads": bool(compared["mrr"]["low"] > 0 and lost) if len(set(rows)) >= FEW_GROUPS else None,
    }


def _mean_scores(places: Sequence[Sequence[Place]]) -> dict[str, Numbers]:
    """What each row adds to each figure, the mean over its places, `[rows]`."""
    lengths = np.array([len(found) for found in places])
    starts = np.cumsum(lengths) - lengths
    scores = _scores([place for found in places for place in found])
    return {name: np.add.reduceat(values, starts) / lengths for name, values in scores.items()}
