"""The README: its Korean twin keeps step with it, and its pictures are there, small, and of its own commands."""

import html
import re
from collections import Counter
from itertools import zip_longest

import pytest

from support.paths import ROOT

ENGLISH, KOREAN = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ko.md"))
# Pictures are downloaded by everybody who opens the page.
BUDGET = 400_000
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r'(?:!\[[^\]]*\]\(|src(?:set)?=")(docs/pictures/[^)"]+)')


def sections(text):
    """The text before the first heading, and that under each: `(level, text)`; a comment in code is no heading."""
    parts = re.split(
        r"^(#+) (?=.*$)", BLOCK.sub(lambda block: block[0].replace("\n#", "\n\x00"), text), flags=re.MULTILINE
    )
    return [(len(level), part.replace("\x00", "#")) for level, part in zip(parts[1::2], parts[2::2], strict=True)]


def code(section):
    """Each block's language and lines, without comments, which are translated."""
    return [
        (kind, [re.sub(r"(?:^|\s+)# .*", "", line) for line in body.splitlines()])
        for kind, body in BLOCK.findall(section)
    ]


def links(section):
    """What is linked, in any order; either page's link to the other is the same."""
    return Counter(target.replace("README.ko.md", "README.md") for target in re.findall(r"\]\(([^)]+)\)", section))


def names(section):
    """Commands, files, settings: what stands in backticks in the text."""
    return Counter(re.findall(r"`([^`\n]+)`", BLOCK.sub("", section)))


def numbers(section):
    """Every number, in any order; digits inside a word, such as T4, are no number."""
    return Counter(re.findall(r"(?<![A-Za-z\d])\d+(?:[.,]\d+)*", section))


def rows(section):
    """How many cells each row of a table has."""
    return [line.count("|") for line in section.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("of", [code, links, names, numbers, rows, PICTURE.findall], ids=lambda of: of.__name__)
def test_korean_readers_are_told_the_same(of):
    for (level, english), (korean_level, korean) in zip_longest(sections(ENGLISH), sections(KOREAN), fillvalue=(0, "")):
        assert (korean_level, of(korean)) == (level, of(english)), f"under {english.splitlines()[0]}"


def test_pictures_are_there_and_small():
    shown = set(PICTURE.findall(ENGLISH))
    assert {f"docs/pictures/{file.name}" for file in (ROOT / "docs/pictures").iterdir()} == shown
    assert sum((ROOT / picture).stat().st_size for picture in shown) <= BUDGET


def test_the_recording_is_of_commands_of_the_readme():
    film = (ROOT / "docs/pictures/terminal.svg").read_text(encoding="utf-8")
    recorded = html.unescape(re.search(r"<desc>(.*?)</desc>", film, re.DOTALL)[1]).splitlines()
    written = [line for _, block in code(ENGLISH) for line in block]
    assert recorded
    assert [line for line in recorded if line not in written] == []
