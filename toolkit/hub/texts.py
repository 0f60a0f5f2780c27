"""Every text that a file holds, with its place: lines, JSON values, rows of Parquet, metadata of tensors and images."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A text is looked at as a whole up to this size; nobody writes such a line by hand.
LONGEST_CHUNK = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Text:
    """A text in a file.

    Attributes:
        text: What it says.
        place: Where in the file: a key, a row; empty for a file that is one text.
        key: The name that the value goes by in a file of facts; empty for running text.
    """

    text: str
    place: str = ""
    key: str = ""


def texts_of(path: Path) -> Iterator[Text]:
    """What a file says, piece by piece; of a file of an unknown kind all its bytes, read as Latin-1."""
    kinds = {
        ".json": _json,
        ".jsonl": _json_lines,
        ".parquet": _parquet,
        ".safetensors": _safetensors,
        ".png": _png,
    }
    yield from kinds.get(path.suffix, whole)(path)


def whole(path: Path) -> Iterator[Text]:
    """A file as one text."""
    content = path.read_bytes()
    try:
        yield Text(content.decode("utf-8"))
    except UnicodeDecodeError:
        yield Text(content.decode("latin-1"))


def _json(path: Path) -> Iterator[Text]:
    yield from _values(json.loads(path.read_text(encoding="utf-8")), "", "")


def _json_lines(path: Path) -> Iterator[Text]:
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        try:
            # Values as they are, so that a backslash is one backslash.
            value = json.loads(line) if line else None
        except ValueError:
            value = line
        for text in _values(value, "", ""):
            yield Text(text.text, f"line {number}")


def _values(value: Any, place: str, key: str) -> Iterator[Text]:
    """Keys and strings of a JSON value, however deep."""
    if isinstance(value, str):
        yield Text(value, place, key)
    elif isinstance(value, dict):
        for name, inner in value.items():
            inside = f"{place}.{name}" if place else str(name)
            yield Text(str(name), inside)
            yield from _values(inner, inside, str(name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _values(inner, f"{place}[{number}]", key)


def _parquet(path: Path) -> Iterator[Text]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for key, value in (file.metadata.metadata or {}).items():
                yield Text(value.decode("utf-8", "replace"), f"metadata {key.decode('utf-8', 'replace')}")
            number = 0
            for batch in file.iter_batches(1_000):
                for row in batch.to_pylist():
                    for text in _values(row, "", ""):
                        yield Text(text.text, f"row {number}, {text.place}")
                    number += 1
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError):
        # What can not be read as a table is looked at as it lies there.
        yield from whole(path)


def _safetensors(path: Path) -> Iterator[Text]:
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(min(length, LONGEST_CHUNK)))
    yield from _values(header.get("__metadata__"), "", "")
    for name in header:
        yield Text(name, f"tensor {name}")


def _png(path: Path) -> Iterator[Text]:
    """The text chunks of a PNG (tEXt, zTXt, iTXt, eXIf), as drawing programs write them."""
    content, at = path.read_bytes(), 8
    while at + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        data = content[at + 8 : at + 8 + length]
        if kind in (b"tEXt", b"iTXt", b"eXIf"):
            yield Text(data.decode("latin-1"), f"chunk {kind.decode()}", "chunk")
        elif kind == b"zTXt":
            name, _, packed = data.partition(b"\0")
            try:
                yield Text(zlib.decompress(packed[1:]).decode("latin-1"), f"chunk {name.decode('latin-1')}", "chunk")
            except zlib.error:
                yield Text(data.decode("latin-1"), "chunk zTXt", "chunk")
        at += length + 12
