"""Which encoding a text file is in, and where it is not. Knows nothing of what the text means.

Detection knows what people save Korean and English tables in: Unicode, Korean Windows and western Windows. Among these
it needs no statistics of languages: cp949 and cp1252 differ in which bytes may follow each other. On game texts in five
languages, from one row upwards, it finds the same as charset-normalizer that is told to choose among the two.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable
from pathlib import Path
from typing import IO

from toolkit.core.errors import InputError

CHUNK = 1 << 20
"""Bytes that are looked at around the first one that is not UTF-8."""

KOREAN, WESTERN = "cp949", "cp1252"
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_TEXT_CONTROLS = set("\t\n\v\f\r\x1a\x85")
_NOT_FOR_FILES = ("idna", "punycode", "undefined")
_OTHER_FORMATS = ((b"\x1f\x8b", "gzip"), (b"PK\x03\x04", "an Excel or ZIP file"), (b"PAR1", "Parquet"))

Opener = Callable[[], IO[bytes]]


def asked_encoding(name: str) -> str:
    """An encoding that a user names, checked.

    Raises:
        InputError: Python knows no text encoding of that name.
    """
    try:
        found = io.TextIOWrapper(io.BytesIO(), codecs.lookup(name).name).encoding
        if found in _NOT_FOR_FILES:
            raise LookupError(found)
        return found
    except (LookupError, ValueError) as error:
        raise InputError(
            f"The encoding {name!r} is not known.", "Name one like utf-8, cp949 or cp1252 with --encoding."
        ) from error


def detected_encoding(opened: Opener, path: Path) -> str:
    """The encoding of a file: what its byte-order mark says, else UTF-8, else Korean or western Windows.

    UTF-8 is checked over the whole file; what else it is, is judged by the part with the first byte that is not UTF-8.

    Raises:
        InputError: It is none of them, a UTF-8 file that is damaged, or no text.
    """
    with opened() as stream:
        first = stream.read(CHUNK)
        for start, format in _OTHER_FORMATS:
            if first.startswith(start):
                raise InputError(f"{path} is {format}, whatever its name says.", "Name it so, or save it as CSV.")
        for mark, encoding in _MARKS:
            if first.startswith(mark):
                return encoding
        sample = _not_utf8(first, stream)
    return "utf-8" if sample is None else _legacy(sample, opened, path)


def _not_utf8(chunk: bytes, stream: IO[bytes]) -> bytes | None:
    """The lines around the first byte that is not UTF-8, at most two chunks of them; None when there is none."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    before = b""
    while chunk:
        following = stream.read(CHUNK)
        try:
            decoder.decode(chunk, final=not following)
        except UnicodeDecodeError:
            return before.rpartition(b"\n")[2] + chunk
        before, chunk = chunk, following
    return None


def _legacy(sample: bytes, opened: Opener, path: Path) -> str:
    if b"\0" in sample:
        raise perhaps_utf16(path)
    valid = sum(not character.isascii() for character in sample.decode("utf-8", "ignore"))
    invalid = sample.decode("utf-8", "replace").count("\ufffd")
    if valid > invalid:
        raise not_decodable(opened, path, "utf-8")
    for encoding, fits in ((KOREAN, _is_korean), (WESTERN, _is_text)):
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(sample)
        except UnicodeDecodeError:
            continue
        if _is_text(text) and fits(text):
            return encoding
    raise InputError(
        f"{path} is neither UTF-8 nor {KOREAN} nor {WESTERN}.",
        "Name its encoding with --encoding, or save the table as UTF-8.",
    )


def _is_korean(text: str) -> bool:
    """Whether most of the wide characters are the syllables of the Korean standard, which few texts have others than.

    In western text, a letter with an accent or a curly apostrophe looks like a rare syllable together with the ASCII
    letter behind it, and like a Chinese character together with another letter with an accent.
    """
    wide = [character.encode(KOREAN) for character in text if not character.isascii()]
    common = sum(len(pair) == 2 and 0xB0 <= pair[0] <= 0xC8 and pair[1] >= 0xA1 for pair in wide)
    return common * 2 > len(wide)


def _is_text(text: str) -> bool:
    return not any(
        not character.isprintable() and character < "\xa0" and character not in _TEXT_CONTROLS for character in text
    )


def perhaps_utf16(path: Path) -> InputError:
    """The error for a file with null characters where a text has none."""
    return InputError(
        f"{path} has null characters: it may be UTF-16 without a mark that says so.",
        "Name its encoding with --encoding, such as utf-16-le.",
    )


def not_decodable(opened: Opener, path: Path, encoding: str) -> InputError:
    """The error for a file that is not in an encoding: says the row and the byte of the first place."""
    decoder = codecs.getincrementaldecoder(encoding)()
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    row, end = 1, 0
    with opened() as stream:
        while True:
            chunk = stream.read(CHUNK)
            end += len(chunk)
            try:
                row += newlines.decode(decoder.decode(chunk, final=not chunk)).count("\n")
            except UnicodeDecodeError as error:
                row += error.object[: error.start].decode(encoding, "replace").count("\n")
                place = end - len(error.object) + error.start
                found = (
                    f"{path}, row {row} is not {encoding.upper()}: byte 0x{error.object[error.start]:02x} at {place}."
                )
                break
            except UnicodeError:
                found = f"{path}, row {row} or one after it is not {encoding.upper()}."
                break
            if not chunk:
                found = f"{path} is not {encoding.upper()}."
                break
    return InputError(found, "Correct that place, or name the encoding of the file with --encoding.")
