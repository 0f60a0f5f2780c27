"""Numbers are read at a glance."""

from __future__ import annotations

import pytest

from toolkit.core.format import duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(4.04, "4 s"), (41.2, "41 s"), (59.7, "1 min 00 s"), (185.0, "3 min 05 s"), (7380.0, "2 h 03 min")],
)
def test_a_duration_is_said_in_its_two_largest_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words
