"""A text file as lines, gzipped or not: its encoding is detected among few, and a place that is not in it is named."""

from __future__ import annotations

import gzip
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import IO, cast

from charset_normalizer import from_bytes

from toolkit.core.errors import InputError, library_errors

# Encodings of Korean and English tables: with all that exist to choose from, short western texts are often misread.
UNICODE = ["utf_16", "utf_16_le", "utf_16_be", "utf_32"]
WINDOWS = ["utf_8", "cp949", "cp1252"]
# Read for the detection of an encoding: 100 lines before the first one that is not UTF-8, and 1 MiB after it.
LINES_BEFORE, SAMPLE = 100, 1 << 20


def read_errors(path: Path, what: str = "cannot be read") -> AbstractContextManager[None]:
    """Translate a library's errors about a file."""
    return library_errors(f"{path} {what}", "Check its permissions, or get the file again.")


def file_lines(path: Path, encoding: str) -> Iterator[str]:
    """The file's lines, without a byte-order mark.

    Raises:
        InputError: It cannot be read, or is not in that encoding.
    """
    with read_errors(path), _binary(path) as binary, TextIOWrapper(binary, encoding, newline="") as stream:
        try:
            yield next(stream, "").removeprefix("\ufeff")
            yield from stream
        except UnicodeError as error:
            raise _undecodable(path, encoding) from error


def encoding_of(path: Path, asked: str | None) -> str:
    """The encoding that a user names, if Python knows it, or else the one that is detected.

    Raises:
        InputError: It is not known, or the file cannot be read or is in none of those that are looked for.
    """
    if asked is None:
        return _detected(path)
    try:
        return TextIOWrapper(BytesIO(), asked).encoding
    except (LookupError, ValueError) as error:
        raise InputError(
            f"The encoding {asked!r} is not known.", "Name one like utf-8, cp949 or cp1252 in `encoding`."
        ) from error


def _binary(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.name.lower().endswith(".gz") else path.open("rb")


def _detected(path: Path) -> str:
    """The encoding of a file: UTF-8 when all of it is, else the likeliest of a few."""
    with read_errors(path), _binary(path) as stream:
        lines: deque[bytes] = deque(maxlen=LINES_BEFORE)
        with suppress(UnicodeDecodeError):
            for line in stream:
                lines.append(line)
                line.decode()
                # A header with null characters is UTF-16, whose bytes can all be UTF-8 too.
                if b"\0" in line and len(lines) == 1:
                    break
            else:
                return "utf-8"
        sample = b"".join(lines) + stream.read(SAMPLE) + stream.readline()
    if sample.startswith((b"PK\x03\x04", b"\x1f\x8b", b"PAR1")):
        raise InputError(f"{path} is an Excel, compressed or Parquet file, whatever its name says.", "Save it as CSV.")
    best = from_bytes(sample, cp_isolation=UNICODE if b"\0" in sample else WINDOWS).best()
    if best is None or best.encoding == "utf_8":
        raise _undecodable(path, "utf-8")
    return str(best.encoding).replace("_", "-")


def _undecodable(path: Path, encoding: str) -> InputError:
    """The error for a file that is not in an encoding: says the row and the byte of the first place."""
    found, start = f"{path} is not {encoding.upper()}.", 0
    with _binary(path) as stream:
        for row, line in enumerate(stream, 1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError as error:
                place = f"byte 0x{line[error.start]:02x} at {start + error.start}"
                found = f"{path}, row {row} is not {encoding.upper()}: {place}."
                break
            start += len(line)
    return InputError(found, "Correct that place, or name the encoding of the file in `encoding`.")
