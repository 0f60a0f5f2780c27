"""Numbers as a person reads them, on a card and in a terminal. Knows nothing of what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def duration(seconds: float) -> str:
    """Seconds as a person says them: `42 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def number(value: int | None) -> str | None:
    """A count with its thousands set off; None stays None."""
    return None if value is None else f"{value:,}"


def percent(score: Mapping[str, Any] | None) -> str | None:
    """A share with its 95 % interval where there is one: `31.0% (24.0–39.0)`."""
    if score is None:
        return None
    if score.get("low") is None:
        return f"{score['value']:.1%}"
    return f"{score['value']:.1%} ({score['low'] * 100:.1f}–{score['high'] * 100:.1f})"
