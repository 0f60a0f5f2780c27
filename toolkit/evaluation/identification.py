"""Identification of known creatures: scores with intervals, calibration, and whether answers come from reading."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np

from toolkit.core.text import natural
from toolkit.evaluation.intervals import FEW_GROUPS, Estimate, Numbers, estimate
from toolkit.evaluation.predictions import ADAPTER, Prediction
from toolkit.evaluation.ranks import Rank, reciprocals, share_within

CHANCE = "chance"
HITS = {"top1": 1, "top5": 5}
# The share of its advantage over chance that an adapter that reads may keep under other creatures' descriptions.
KEPT_AT_MOST = 0.5
SMALLEST_GROUP = 5
OTHER = "other"
ROWS_OF_A_BIN = 20

Scores = dict[str, Estimate]
"""Estimates of `top1`, `top5` and `mrr`, the mean reciprocal rank."""


def identification(
    predictions: Mapping[str, Sequence[Prediction]], candidates: int, seed: int, *, chance: bool = True
) -> dict[str, object] | None:
    """The `test` of `evaluation.json`; None without predictions.

    Args:
        predictions: For `test`, by method.
        candidates: How many names compete.
        seed: Decides the resamples of the intervals.
        chance: Whether chance is one of the methods.
    """
    if not predictions:
        return None
    adapter = predictions[ADAPTER]
    creatures = [prediction.creature for prediction in adapter]
    ranks = {method: _ranks(made) for method, made in predictions.items()}
    own = ranks.pop(ADAPTER)
    methods: dict[str, object] = {method: _method_scores(made, seed) for method, made in predictions.items()}
    if chance:
        methods[CHANCE] = {
            name: {"value": value, "n": len(adapter)} for name, value in chance_scores(candidates).items()
        }
    # An answer that shares the first rank is not behind the one that is listed there.
    said = [one.top[0] if rank.above else one.answer for one, rank in zip(adapter, own, strict=True)]
    return {
        "rows": len(adapter),
        "creatures": len(set(creatures)),
        "methods": methods,
        "differences": {method: differences(own, others, creatures, seed) for method, others in ranks.items()},
        "shuffled": shuffled_control(own, [one.shuffled_ranks for one in adapter], creatures, candidates, seed),
        "groups": _group_scores(adapter, seed),
        "places": rank_counts(own, candidates),
        "confusions": confusions([one.answer for one in adapter], said),
        "calibration": calibration([one.confidence or 0.0 for one in adapter], list(share_within(own, 1, 1))),
    }


def _ranks(made: Sequence[Prediction]) -> list[Rank]:
    return [one.rank for one in made if one.rank is not None]


def _method_scores(made: Sequence[Prediction], seed: int) -> Scores:
    exact = [one.greedy == one.answer for one in made] if all(one.greedy is not None for one in made) else None
    return scores(_ranks(made), [one.creature for one in made], seed, exact)


def _group_scores(adapter: Sequence[Prediction], seed: int) -> dict[str, dict[str, Scores]]:
    """The adapter's scores by generation and by type, where the data has them."""
    grouped = groups_of([json.loads(one.attributes) for one in adapter])
    return {
        kind: {label: _method_scores([adapter[row] for row in rows], seed) for label, rows in labels.items()}
        for kind, labels in grouped.items()
    }


def chance_scores(candidates: int) -> dict[str, float]:
    """Expected top-1, top-5 and mean reciprocal rank of a guess among equally likely candidates."""
    mrr = sum(1 / rank for rank in range(1, candidates + 1)) / candidates
    return {"top1": 1 / candidates, "top5": min(5, candidates) / candidates, "mrr": mrr}


def scores(ranks: Sequence[Rank], groups: Sequence[Hashable], seed: int, exact: Sequence[bool] | None = None) -> Scores:
    """`top1`, `top5` and `mrr`, and `exact` where it is given.

    Args:
        ranks: The right answer's rank for each row, at least one.
        groups: The creature of each row.
        seed: Decides the resamples.
        exact: Whether the name that a model wrote by itself is the right one, for each row.
    """
    found = {
        name: estimate(values, groups, seed, rare_highs=name == "mrr") for name, values in _row_scores(ranks).items()
    }
    return found if exact is None else found | {"exact": estimate(list(map(float, exact)), groups, seed)}


def _row_scores(ranks: Sequence[Rank]) -> dict[str, Numbers]:
    """What each row adds to each score, `[rows]`."""
    return {name: share_within(ranks, 1, last) for name, last in HITS.items()} | {"mrr": reciprocals(ranks)}


def difference(
    a: Sequence[float] | Numbers, b: Sequence[float] | Numbers, groups: Sequence[Hashable], seed: int
) -> Estimate:
    """How much larger the mean of `a` is than that of `b`, row by row; both lie between 0 and 1."""
    some, others = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    # A difference that is only the rounding of a mean is none.
    same = np.isclose(some, others, rtol=0, atol=1e-12)
    return estimate(np.where(same, 0.0, some - others), groups, seed, (-1.0, 1.0))


def differences(a: Sequence[Rank], b: Sequence[Rank], groups: Sequence[Hashable], seed: int) -> Scores:
    """How much larger each score is for ranks `a` than for ranks `b` of the same rows."""
    others = _row_scores(b)
    return {name: difference(values, others[name], groups, seed) for name, values in _row_scores(a).items()}


def calibration(confidences: Sequence[float], right: Sequence[float], bins: int = 10) -> dict[str, object] | None:
    """Whether a model is right as often as its confidence says.

    Args:
        confidences: Probability of the first answer among all candidates, for each row.
        right: Whether it was the right one, 0 or 1; in between where several share the first rank.
        bins: Most bins of equally many rows; fewer where a bin would have less than twenty. Rows of equal confidence
            stay together.

    Returns:
        `bins` by rising confidence (`low` and `high` are those of their first and last row);
        `error`, the expected calibration error (Guo et al. 2017); `brier`, the mean squared distance of confidence and
        outcome (Brier 1950). None without rows.
    """
    if not len(confidences):
        return None
    sure, hits = np.asarray(confidences, dtype=float), np.asarray(right, dtype=float)
    # In small bins chance alone is an error. Each bin but the first begins at an edge.
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


def confusions(answers: Sequence[str], said: Sequence[str], most: int = 10) -> list[dict[str, object]]:
    """The most frequent wrong first answers: the right `answer`, what was `said`, and in how many `rows`."""
    wrong = Counter(pair for pair in zip(answers, said, strict=True) if pair[0] != pair[1])
    ordered = sorted(wrong.items(), key=lambda item: (-item[1], item[0]))
    return [{"answer": answer, "said": other, "rows": rows} for (answer, other), rows in ordered[:most]]


def rank_counts(ranks: Sequence[Rank], candidates: int) -> list[dict[str, float]]:
    """How many rows have their right answer at rank 1, 2 to 5, 6 to 10, 11 to 20, 21 to 50, and so on to the last.

    A row whose answer is tied counts in parts, whose sum may be fractional.
    """
    # Thirds and sevenths add up to a whole number but for their rounding.
    counted = (
        (first, end, round(float(share_within(ranks, first, end).sum()), 9)) for first, end in _ranges(candidates)
    )
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


def groups_of(attributes: Sequence[Mapping[str, object]]) -> dict[str, dict[str, list[int]]]:
    """Rows grouped by their attributes.

    Args:
        attributes: `generation` and `types`, of which the first counts, for each row; a row may lack them.

    Returns:
        `generation` and `type` -> label -> row numbers, in the order of the labels. Labels of fewer than five rows are
        one last group, `other`. A kind with only one group is left out.
    """
    labels: dict[str, list[str | None]] = {
        "generation": [_label(known.get("generation")) for known in attributes],
        "type": [_label(_first(known.get("types"))) for known in attributes],
    }
    grouped = {kind: _grouped(found) for kind, found in labels.items()}
    return {kind: groups for kind, groups in grouped.items() if len(groups) > 1}


def _first(values: object) -> object:
    return values[0] if isinstance(values, list) and values else None


def _label(value: object) -> str | None:
    return str(value) if isinstance(value, str | int) and str(value) else None


def _grouped(labels: Sequence[str | None]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    counted = Counter(labels)
    for number, label in enumerate(labels):
        if label is not None:
            rows.setdefault(label if counted[label] >= SMALLEST_GROUP else OTHER, []).append(number)
    return {label: rows[label] for label in sorted(rows, key=lambda label: (label == OTHER, natural(label)))}


def shuffled_partners(creatures: Sequence[str], seed: int, partners: int = 20) -> list[list[int]]:
    """Rows of other creatures, whose descriptions replace each row's own in the control.

    In one random order of all rows, each row is paired with the one a number of steps further; each number of steps
    uses every row once.

    Args:
        creatures: The creature of each row.
        seed: Decides the order.
        partners: How many a row gets at most.

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
    # By position in the order; rows that have enough drop out.
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


def shuffled_control(
    ranks: Sequence[Rank],
    shuffled_ranks: Sequence[Sequence[Rank]],
    groups: Sequence[Hashable],
    candidates: int,
    seed: int,
) -> dict[str, object] | None:
    """Whether answers come from the description: whether the right one falls back when another creature is described.

    An adapter reads when its mean reciprocal rank is surely (95 %) higher than under other descriptions, and loses
    most of its advantage over chance there. Knowing the frequent names, or those of training, is not reading.

    Args:
        ranks: The right answer's rank for each row.
        shuffled_ranks: Its ranks after the descriptions of `shuffled_partners`, for each row.
        groups: The creature of each row.
        candidates: How many answers compete.
        seed: Decides the resamples.

    Returns:
        `figures` under other descriptions, `difference` (the adapter minus those) and `reads`, None with too few
        creatures to tell. None where no row has a partner.
    """
    kept = [row for row, found in enumerate(shuffled_ranks) if len(found)]
    if not kept:
        return None
    own = _row_scores([ranks[row] for row in kept])
    others = _mean_scores([shuffled_ranks[row] for row in kept])
    rows = [groups[row] for row in kept]
    compared = {name: difference(own[name], others[name], rows, seed) for name in own}
    chance = chance_scores(candidates)["mrr"]
    lost = others["mrr"].mean() - chance <= KEPT_AT_MOST * (own["mrr"].mean() - chance)
    return {
        "figures": {name: estimate(values, rows, seed) for name, values in others.items()},
        "difference": compared,
        "reads": bool(compared["mrr"]["low"] > 0 and lost) if len(set(rows)) >= FEW_GROUPS else None,
    }


def _mean_scores(ranks: Sequence[Sequence[Rank]]) -> dict[str, Numbers]:
    """What each row adds to each score, the mean over its ranks, `[rows]`."""
    lengths = np.array([len(found) for found in ranks])
    starts = np.cumsum(lengths) - lengths
    summed = _row_scores([rank for found in ranks for rank in found])
    return {name: np.add.reduceat(values, starts) / lengths for name, values in summed.items()}
