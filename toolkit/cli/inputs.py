"""Lines of a text file or of standard input, as they come, each with its place. Knows nothing of what they are for."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from toolkit.core.errors import InputError

STANDARD_INPUT = Path("-")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not empty.

    Attributes:
        text: Without blanks at its ends.
        where: `Line 3 of creatures.txt`.
    """

    text: str
    where: str


def read_lines(file: Path) -> Iterator[Line]:
    """The lines of a UTF-8 text that are not empty; `-` is standard input, which is read no further than asked for.

    Raises:
        InputError: It can not be read, or a line is not UTF-8.
    """
    name = "standard input" if file == STANDARD_INPUT else str(file)
    with _opened(file) as stream:
        for number, raw in enumerate(stream, start=1):
            where = f"Line {number} of {name}"
            try:
                text = raw.removeprefix(BYTE_ORDER_MARK).decode("utf-8").strip()
            except UnicodeDecodeError as error:
                raise InputError(f"{where} is not UTF-8.", "Save the text as UTF-8.") from error
            if text:
                yield Line(text, where)


def read_descriptions(file: Path) -> Iterator[Line]:
    """One description a line; of a file that ends in `.jsonl`, the `description` of each line.

    Raises:
        InputError: As `read_lines`, or a line of JSON Lines holds no description.
    """
    for line in read_lines(file):
        yield Line(_description(line), line.where) if file.suffix == ".jsonl" else line


def _opened(file: Path) -> AbstractContextManager[IO[bytes]]:
    if file == STANDARD_INPUT:
        return nullcontext(sys.stdin.buffer)
    try:
        return file.open("rb")
    except OSError as error:
        raise InputError(f"{file} can not be read: {error.strerror}.", "Name a text file.") from error


def _description(line: Line) -> str:
    try:
        value = json.loads(line.text)
    except ValueError as error:
        raise InputError(f"{line.where} is not JSON.", "Each line of a .jsonl file is a JSON object.") from error
    description = value.get("description") if isinstance(value, dict) else None
    if not isinstance(description, str):
        raise InputError(f"{line.where} has no text `description`.", 'Each line is like {"description": "A red fox."}.')
    return description
