"""Contracts that every room shares: errors, recipes, folders and manifests, names of files, the Hub's client.

This file says how a long step reports to its caller (`Progress`, `Note`), and how numbers are written for people.
"""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float, int | None], None]
"""`progress(task, done, total)`: `done` may be a part of a row, `total` is None where it is unknown."""

Note = Callable[[str], None]
"""`note(sentence)`: something that the user should know, such as a fallback."""


def ignore(*_: object) -> None:
    """Do nothing with what a step reports: the default callback."""


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


def size(count: float) -> str:
    """Bytes as a person reads them: `812 B`, `5.0 MB`, `12 GB`. Decimal, as the Hub counts."""
    unit = "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if count < 999.5:
            break
        count, unit = count / 1000, larger
    return f"{count:.0f} {unit}" if unit == "B" or count >= 9.95 else f"{count:.1f} {unit}"
