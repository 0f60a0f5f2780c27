"""What a long step calls while it works, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float, int | None], None]
"""`progress(task, done, total)`: `done` may be a part of a row, `total` is None where it is unknown."""

Note = Callable[[str], None]
"""`note(sentence)`: something that the user should know, such as a fallback."""


def ignore(*_: object) -> None:
    """Do nothing with what a step reports: the default callback."""
