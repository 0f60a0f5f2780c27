"""What adapters answer: results themselves, so on standard output, in a terminal never wider than it is."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click
from rich.cells import cell_len, set_cell_size

from toolkit.cli.output.terminal import as_json, say

SHOWN = 0.0005


def named(result: Any, json_wanted: bool, *, wanted: int, one_of_several: bool) -> None:
    """Invented names with their probabilities, and the known creatures nearest to the description."""
    if _machines(result, json_wanted, one_of_several):
        return
    for name in result.names:
        _line(name.probability, f"{name.name}  (known)" if name.known else name.name)
    if result.nearest:
        click.echo(_fitting("Nearest known creatures:"))
        _candidates(result.nearest)
    _end(one_of_several)
    if len(result.names) < wanted:
        say(f"{len(result.names)} of {wanted} names: more draws gave only the same again.")


def identified(result: Any, json_wanted: bool, *, one_of_several: bool) -> None:
    """Candidates with their probabilities."""
    if not _machines(result, json_wanted, one_of_several):
        _candidates(result.candidates)
        _end(one_of_several)


def _machines(result: Any, json_wanted: bool, one_of_several: bool) -> bool:
    """Show JSON where it is wanted, one line for each of several; else say which of several is answered."""
    if json_wanted and one_of_several:
        click.echo(json.dumps(asdict(result), ensure_ascii=False))
    elif json_wanted:
        as_json(asdict(result))
    elif one_of_several:
        click.secho(_fitting(result.description), bold=True)
    return json_wanted


def _end(one_of_several: bool) -> None:
    if one_of_several:
        click.echo()


def _candidates(candidates: Sequence[Any]) -> None:
    for candidate in candidates:
        _line(candidate.probability, candidate.name)


def _line(probability: float, text: str) -> None:
    share = f"{probability:.1%}" if probability >= SHOWN else "<0.1%"
    click.echo(_fitting(f"{share:>6}  {_plain(text)}"))


def _plain(text: str) -> str:
    """A model may say anything: nothing of it commands the terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _fitting(text: str) -> str:
    """The text, cut where a terminal would break it; a Hangul syllable is two columns wide."""
    if not sys.stdout.isatty():
        return text
    columns = shutil.get_terminal_size().columns
    return text if cell_len(text) <= columns else set_cell_size(text, columns - 1).rstrip() + "…"
