"""What a terminal shows of a merged model and of the app."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from toolkit.cli.output.terminal import as_json, say
from toolkit.core.format import size


def merged(result: Any, json_wanted: bool) -> None:
    """A merged model, and what it was compared on."""
    if json_wanted:
        as_json(asdict(result))
        return
    for difference in result.differences:
        say(f"sample {difference['id']}: {difference['merged']}, where the adapter says {difference['adapter']}")
    same = result.samples - len(result.differences)
    checked = f"{same} of {result.samples} samples have the adapter's greedy name" if result.samples else "not compared"
    say(f"{result.path} holds the merged model, {size(result.bytes)} in {result.dtype}: {checked}.")
    if not result.samples:
        say("The adapter was never evaluated, so there are no samples to compare.")


def app_is_ready(url: str) -> None:
    """An app that can be used now."""
    say(f"The app is at {url}. Stop it with Ctrl-C.")
