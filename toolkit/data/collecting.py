"""Python's garbage collector, made rarer where millions of objects live until the end anyway."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

RARE = (200_000, 50, 1_000)


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """Look for garbage a hundred times less often inside the block; also usable as a decorator.

    Each full collection walks over all objects, so with a million rows it would take a tenth of the time, and more with
    more rows.
    """
    before = gc.get_threshold()
    gc.set_threshold(*RARE)
    try:
        yield
    finally:
        gc.set_threshold(*before)
