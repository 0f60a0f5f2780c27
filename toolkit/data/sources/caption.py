"""`Name: description` in one text, as captions are often written: taken apart. Knows nothing of tables."""

from __future__ import annotations

import re

LONGEST_NAME = 40
MOST_WORDS = 4

_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "「": "」", "『": "』"}
# A colon and white space, with markdown's marks of bold before or behind it, or a full-width colon.
_COLON = r"(?:[:：][*_]+(?=\s|$)|:(?=\s|$)|：)"
# The one creature with a colon in its name. Others are not guessed: `Ho-Oh: Type: Fire` is about Ho-Oh.
_COLONED = r"[*_'\"“]*(?:Type: ?Null|타입: ?널)[*_'\"”]*"
_SPLIT = re.compile(rf"({_COLONED}|[^:：\n]{{1,{LONGEST_NAME}}}?)\s?{_COLON}(.*)", re.DOTALL)
_LEAD = re.compile(r"\s*(?:(?:[-*•#>]+|\d+[.)])\s+)*")


def split_caption(text: str) -> tuple[str, str]:
    """The name and the description; the name is empty, and the text as it was, when it does not begin with a name.

    Markdown's bold, list and heading marks and quotes around the name or around the whole are left out.
    """
    found = _SPLIT.fullmatch(_LEAD.sub("", text, count=1).rstrip())
    if found is None:
        return "", text
    name, description = found[1].strip("*_ \t"), found[2].strip()
    closing = _QUOTES.get(name[:1], "")
    if closing and len(name) > 1 and name.endswith(closing):
        name = name[1:-1].strip("*_ \t")
    elif closing and description.endswith(closing):
        name, description = name[1:], description[:-1]
    return (name, description) if _is_name(name) else ("", text)


def _is_name(name: str) -> bool:
    """Whether it reads like a name: a sentence before a colon has more words, or words in lower case."""
    words = name.split()
    if not any(character.isalpha() for character in name) or len(words) > MOST_WORDS:
        return False
    return len(words) == 1 or not any(word[0].islower() for word in words)
