"""Foreign text made safe inside Markdown: it reads as it is, and cannot become syntax, HTML, a link or an image."""

from __future__ import annotations

import json
import re
import unicodedata

from toolkit.core.text import printable

# Letters by category that show nothing: Hangul fillers, and the joiner of combining marks.
_BLANK = frozenset("\u034f\u115f\u1160\u3164\uffa0")
_HIDDEN = frozenset({"Cc", "Cf", "Cn", "Co"})
# Not an underscore inside a word, so that names of settings stay readable.
_BACKSLASHED = re.compile(r"([\\`*\[\]~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
# Entities, since readers beyond CommonMark look for these: table cells, HTML, formulas, mentions.
_ENTITIES = {ord(char): f"&#{ord(char)};" for char in "|<>&$@"}
# `http://`, `www.` and `:name:` become links and emoji on the Hub.
_LINKING = re.compile(r":(?=\S)|(?<=www)\.", re.IGNORECASE)
# Some readers look for addresses once entities are characters again: only a comment inside the text stops them.
_ADDRESS = re.compile("(?<=\\S)\0" + "64;(?=\\S)|\0" + "58;(?=//)|(?<=www)\0" + "46;", re.IGNORECASE)
_COMMENT = "<!-- -->"
# Only at the start of a line: headings, their underlines, rules, lists.
_LEADING = re.compile(r"^([-+=#])|^(\d+)([.)])(?= |$)")
_LINE_ENDS = re.compile("\r\n|[\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]")


def plain(text: str, limit: int | None = None) -> str:
    """The visible text on one line: white space as single spaces, invisible and bidirectional controls left out.

    Args:
        limit: Longest result in characters; a longer text is cut between words if possible, and ends in an ellipsis.
    """
    line = " ".join(_visible(" ".join(text.split())).split())
    if limit is None or len(line) <= limit:
        return line
    cut = line[: limit - 1]
    at_word = cut.rpartition(" ")[0]
    return (at_word if len(at_word) > limit // 2 else cut).rstrip() + "…"


def md_text(text: str, limit: int | None = None) -> str:
    """`plain(text)` as inline Markdown that renders to exactly those characters."""
    escaped = _BACKSLASHED.sub(r"\\\1", plain(text, limit).translate(_ENTITIES).replace("&#", "\0"))
    escaped = _LINKING.sub(lambda found: f"\0{ord(found[0])};", escaped)
    escaped = _ADDRESS.sub(rf"\g<0>{_COMMENT}", escaped)
    return _LEADING.sub(_backslash_leading, escaped).replace("\0", "&#")


def md_cell(text: str, limit: int | None = None) -> str:
    """`md_text` for one cell of a table; an empty text shows as a dash."""
    return md_text(text, limit) or "–"


def fence(text: str, language: str = "") -> str:
    """`text` as a fenced block that nothing in it can close. Lines stay lines, invisible controls are left out."""
    lines = _LINE_ENDS.sub("\n", text).split("\n")
    body = "\n".join("\t".join(map(_visible, line.split("\t"))) for line in lines)
    longest = max((len(run) for run in re.findall("`+", body)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{language}\n{body}\n{ticks}"


def python_literal(text: str) -> str:
    """`text` as a Python string literal on one line, everything invisible in it written as an escape."""
    return printable(json.dumps(text, ensure_ascii=False))


def _visible(line: str) -> str:
    kinds = ((char, unicodedata.category(char)) for char in line)
    return "".join(
        "\ufffd" if kind == "Cs" else char for char, kind in kinds if kind not in _HIDDEN and char not in _BLANK
    )


def _backslash_leading(found: re.Match[str]) -> str:
    return f"\\{found[1]}" if found[1] else f"{found[2]}\\{found[3]}"
