"""The rank of a right answer among the candidates, and its scores: tied answers get the mean over all their orders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from toolkit.evaluation.intervals import Numbers


class Rank(NamedTuple):
    """A rank, alone or tied with other answers.

    Attributes:
        mean: 1 is first; the mean of the ranks that tied answers share.
        tied: How many answers share it, this one included.
    """

    mean: float
    tied: int = 1

    @property
    def above(self) -> int:
        """How many answers come before all that share this rank."""
        return round(self.mean - (self.tied + 1) / 2)


def tied_rank(above: int, tied: int) -> Rank:
    """The rank of each of `tied` answers that come after `above` others."""
    return Rank(above + (tied + 1) / 2, tied)


def rank_of(scores: Sequence[float] | Numbers, right: int) -> Rank:
    """Rank of `scores[right]` among all scores, the highest first."""
    found = np.asarray(scores)
    return tied_rank(int((found > found[right]).sum()), int((found == found[right]).sum()))


def share_within(ranks: Sequence[Rank], first: int, last: int) -> Numbers:
    """The probability that each answer stands at a rank from `first` to `last`, `[rows]`: 0 or 1 where none is tied."""
    above, tied = _columns(ranks)
    held: Numbers = np.minimum(last, above + tied) - np.maximum(first - 1, above)
    return held.clip(min=0) / tied


def reciprocals(ranks: Sequence[Rank]) -> Numbers:
    """The expected value of 1 / rank for each answer, `[rows]`."""
    above, tied = _columns(ranks)
    summed = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, int((above + tied).max(initial=0)) + 1))])
    # The difference of two sums is rounded; an answer that is alone has the exact value.
    return np.where(tied == 1, 1 / (above + 1), (summed[above + tied] - summed[above]) / tied)


def _columns(ranks: Sequence[Rank]) -> tuple[Numbers, Numbers]:
    """How many answers come before each, and how many share its rank, `[rows]`."""
    means, tied = np.array(ranks, dtype=float).reshape(-1, 2).T
    return np.rint(means - (tied + 1) / 2).astype(int), tied.astype(int)
