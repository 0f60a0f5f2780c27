"""Where a right answer stands among the candidates, and what a place counts. Ties are fair: any order is as likely.

Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from toolkit.evaluation.intervals import Numbers


class Place(NamedTuple):
    """A place, alone or shared with answers that nothing tells apart.

    Attributes:
        mean: 1 is first. Where several answers share places, the mean of those.
        tied: How many answers share it, this one included.
    """

    mean: float
    tied: int = 1

    @property
    def above(self) -> int:
        """How many answers surely come before."""
        return round(self.mean - (self.tied + 1) / 2)


def shared(above: int, tied: int) -> Place:
    """The place of each of `tied` answers that come after `above` others."""
    return Place(above + (tied + 1) / 2, tied)


def place_of(scores: Sequence[float], right: int) -> Place:
    """Place of `scores[right]` among all scores, the highest first."""
    found = np.asarray(scores)
    return shared(int((found > found[right]).sum()), int((found == found[right]).sum()))


def share_within(places: Sequence[Place], first: int, last: int) -> Numbers:
    """How likely each answer is to stand at the places from `first` to `last`, `[rows]`: 0 or 1 where none is tied."""
    above, tied = _columns(places)
    held: Numbers = np.minimum(last, above + tied) - np.maximum(first - 1, above)
    return held.clip(min=0) / tied


def reciprocals(places: Sequence[Place]) -> Numbers:
    """The expected value of 1 / place for each answer, `[rows]`."""
    above, tied = _columns(places)
    summed = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, int((above + tied).max(initial=0)) + 1))])
    # The difference of two sums is rounded; who is alone has the exact value.
    return np.where(tied == 1, 1 / (above + 1), (summed[above + tied] - summed[above]) / tied)


def _columns(places: Sequence[Place]) -> tuple[Numbers, Numbers]:
    """How many answers come before each, and how many share its place, `[rows]`."""
    means, tied = np.array(places, dtype=float).reshape(-1, 2).T
    return np.rint(means - (tied + 1) / 2).astype(int), tied.astype(int)
