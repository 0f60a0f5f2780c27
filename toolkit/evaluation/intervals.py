"""Values and their groups in; the mean with a 95 % interval out, resampling whole groups."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# With fewer groups than this a resample knows too little of what was not seen.
FEW_GROUPS = 10

Numbers = NDArray[Any]
Estimate = dict[str, float]
"""A mean as `value`, the ends of its interval as `low` and `high`, and the number of rows as `n`."""


def estimate(
    values: Sequence[float] | Numbers,
    groups: Sequence[Hashable],
    seed: int,
    bounds: tuple[float, float] = (0.0, 1.0),
    *,
    rare_highs: bool = False,
) -> Estimate:
    """The mean of `values` with its interval; the arguments are those of `bootstrap_mean`."""
    low, high = bootstrap_mean(values, groups, seed, bounds=bounds, rare_highs=rare_highs)
    return {"value": float(np.mean(values)), "low": low, "high": high, "n": len(values)}


def bootstrap_mean(
    values: Sequence[float] | Numbers,
    groups: Sequence[Hashable],
    seed: int,
    resamples: int = 2000,
    bounds: tuple[float, float] = (0.0, 1.0),
    *,
    rare_highs: bool = False,
) -> tuple[float, float]:
    """The 95 % interval of the mean of `values`, by resampling whole groups.

    Bias-corrected and accelerated (Efron 1987), its quantiles widened for few groups as a t interval is (Hesterberg
    2015). Where all groups have the same mean, so do all resamples: then, and with fewer than ten groups, the interval
    holds at least what Wilson (1927) allows for a case that none of so many groups showed.

    Args:
        values: One number for each row, at least one.
        groups: The group of each row: rows of one creature are not independent.
        seed: Decides the resamples.
        resamples: How many means are drawn.
        bounds: The smallest and the largest value that a row could have had.
        rare_highs: The mean may rest on few large values that most samples lack, as that of reciprocal ranks near
            chance does: the upper end is then at least that of Jeffreys.

    Returns:
        The lower and the upper end.
    """
    sums, counts = _clusters(values, groups)
    mean = sums.sum() / counts.sum()
    unseen = _unseen_share(len(sums))
    low, high = mean - unseen * max(mean - bounds[0], 0), mean + unseen * max(bounds[1] - mean, 0)
    if not np.allclose(sums, mean * counts, rtol=0, atol=1e-12 * max(map(abs, bounds))):
        ends = _accelerated(sums, counts, _resampled_means(sums, counts, seed, resamples))
        few = len(sums) < FEW_GROUPS
        low, high = (min(low, ends[0]), max(high, ends[1])) if few else ends
    if rare_highs:
        high = max(high, _jeffreys_end(sums, counts, seed, resamples, bounds))
    return float(low), float(high)


def _clusters(values: Sequence[float] | Numbers, groups: Sequence[Hashable]) -> tuple[Numbers, Numbers]:
    """Sum and number of the rows of each group, in the order in which the groups first appear."""
    numbers: dict[Hashable, int] = {}
    index = [numbers.setdefault(group, len(numbers)) for group in groups]
    return np.bincount(index, weights=np.asarray(values, dtype=float)), np.bincount(index)


def _unseen_share(count: int) -> float:
    """The upper end of Wilson's interval for an event that none of `count` cases showed."""
    from scipy.stats import binomtest

    return float(binomtest(0, count).proportion_ci(confidence_level=0.95, method="wilson").high)


def _resampled_means(sums: Numbers, counts: Numbers, seed: int, resamples: int) -> Numbers:
    generator, groups = np.random.default_rng(seed), len(sums)
    drawn = (generator.integers(groups, size=(some, groups)) for some in _portions(resamples, groups))
    return np.concatenate([sums[rows].sum(axis=1) / counts[rows].sum(axis=1) for rows in drawn])


def _portions(resamples: int, groups: int) -> Iterator[int]:
    """How many resamples to draw at once, so that memory does not grow with their number."""
    at_once = max(1, 100_000 // groups)
    return (min(at_once, resamples - drawn) for drawn in range(0, resamples, at_once))


def _jeffreys_end(sums: Numbers, counts: Numbers, seed: int, resamples: int, bounds: tuple[float, float]) -> float:
    """The upper end of a Bayesian bootstrap (Rubin 1981) with half a group more at either bound.

    For shares it is the end of Jeffreys's interval (see Brown, Cai and DasGupta 2001).
    """
    generator, groups = np.random.default_rng(seed), len(sums)
    more = generator.gamma(0.5, size=(resamples, 2)) * counts.mean()
    drawn = (generator.standard_exponential((some, groups)) for some in _portions(resamples, groups))
    totals, weights = np.concatenate([[(each * sums).sum(axis=1), (each * counts).sum(axis=1)] for each in drawn], 1)
    means = (totals + (more * bounds).sum(axis=1)) / (weights + more.sum(axis=1))
    return float(np.quantile(means, 0.975))


def _accelerated(sums: Numbers, counts: Numbers, means: Numbers) -> tuple[float, float]:
    from scipy.stats import norm, t

    groups, mean = len(sums), sums.sum() / counts.sum()
    below = ((means < mean).sum() + (means == mean).sum() / 2) / len(means)
    bias = norm.ppf(np.clip(below, 1 / len(means), 1 - 1 / len(means)))
    without = (sums.sum() - sums) / (counts.sum() - counts)
    influence = without.mean() - without
    acceleration = (influence**3).sum() / (6 * (influence**2).sum() ** 1.5)
    wide = t.ppf(0.975, groups - 1) * np.sqrt(groups / (groups - 1))
    shifted = bias + np.array([-wide, wide])
    # Beyond this pole of the formula the quantile is that of the end itself.
    ends = norm.cdf(bias + shifted / np.maximum(1 - acceleration * shifted, 1e-3))
    low, high = np.quantile(means, ends)
    return float(low), float(high)
