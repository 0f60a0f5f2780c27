"""Numbers are read at a glance."""

from __future__ import annotations

import pytest

from toolkit.core import duration, size


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(4.04, "4 s"), (41.2, "41 s"), (59.7, "1 min 00 s"), (185.0, "3 min 05 s"), (7380.0, "2 h 03 min")],
)
def test_a_duration_is_said_in_its_two_largest_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (812, "812 B"), (4_100, "4.1 kB"), (999_600, "1.0 MB"), (310e6, "310 MB"), (5e9, "5.0 GB")],
)
def test_a_size_is_said_in_the_units_of_the_hub(count: float, words: str) -> None:
    assert size(count) == words
