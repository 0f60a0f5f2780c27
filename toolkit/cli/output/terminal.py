"""The terminal: people read standard error, machines standard output. Knows nothing of what is shown."""

from __future__ import annotations

import json
import shutil
import sys
import time
from typing import Any

import click
from rich.console import Console

from toolkit.cli.options import with_options

CONSOLE = Console(stderr=True, highlight=False)
PLAIN_SECONDS = 5.0


def as_json(value: Any) -> None:
    """Print a value for machines."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def say(text: str) -> None:
    """Print a line for people, who know settings by their options."""
    context = click.get_current_context(silent=True)
    CONSOLE.print(with_options(text, context) if context else text, soft_wrap=True, markup=False)


def program() -> str:
    """How this command line is called on this machine: `pkt` where it is on the path."""
    if shutil.which("pkt"):
        return "pkt"
    return "python -m toolkit" if sys.argv[0].endswith("__main__.py") else sys.argv[0]


class Pace:
    """Says when a plain line is due: not more often than every few seconds, so that logs stay readable."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def due(self, *, important: bool) -> bool:
        """Whether to print now; what is important is always due."""
        if not important and time.monotonic() - self.last < PLAIN_SECONDS:
            return False
        self.last = time.monotonic()
        return True
