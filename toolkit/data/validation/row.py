"""Checks of one row by itself: its roles, texts, names and languages. Knows nothing of other rows."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache

from ftfy.badness import is_bad

from toolkit.core.text import BIDI, CONTROL_TOKEN, INVISIBLE, fits_language, has_hangul, language_of
from toolkit.data.masking import ANSWER_LANGUAGES, ORDINARY_WORDS, fold, names_of_answer, own_names_in, spellings
from toolkit.data.near_names import near_name
from toolkit.data.validation.findings import excerpt
from toolkit.data.validation.shard_rows import Row, Turn
from toolkit.data.validation.turns import Conversation

Add = Callable[[str, str, int], None]
"""Called with a code, a text that shows the fault, and its place in it."""

Fault = tuple[str, str, int]

# Longer answers are sentences, whose words may stand in the prompt.
LONGEST_NAME = 60
# Requests, system turns and answers come again and again.
LONGEST_REMEMBERED = 200

_MAY_BE_MOJIBAKE = re.compile("[^\x00-\x7f\uac00-\ud7a3]")


def roles_in_order(turns: Sequence[Turn]) -> bool:
    """An optional system turn, then user and assistant by turns, the assistant last."""
    roles = [turn.role for turn in turns]
    if roles[0] == "system":
        roles = roles[1:]
    return len(roles) > 0 and len(roles) % 2 == 0 and roles == ["user", "assistant"] * (len(roles) // 2)


def check_turns(turns: Sequence[Turn], add: Add) -> bool:
    """The form of a conversation and the letters of its texts; whether a chat template can render it."""
    sound = roles_in_order(turns)
    if not sound:
        add("chat.roles", " → ".join(str(turn.role) for turn in turns), 0)
    faults: dict[str, Fault] = {}
    for turn in turns:
        if not turn.content or turn.content.isspace():
            faults.setdefault("chat.empty", ("chat.empty", f"the turn of {turn.role}", 0))
            continue
        for line in turn.content.split("\n"):
            for fault in _faults(line) if len(line) > LONGEST_REMEMBERED else _known_faults(line):
                faults.setdefault(fault[0], fault)
    for fault in faults.values():
        add(*fault)
    return sound and "chat.empty" not in faults and "chat.control-token" not in faults


def _faults(line: str) -> tuple[Fault, ...]:
    """What is wrong with the letters of one line."""
    found = []
    if ("<" in line or "[" in line) and (hit := CONTROL_TOKEN.search(line)):
        found.append(("chat.control-token", line, hit.start()))
    if line.isascii():
        if not line.isprintable() and (hit := INVISIBLE.search(line)):
            found.append(("text.control", line, hit.start()))
        return tuple(found)
    for code, pattern in (("text.control", INVISIBLE), ("text.bidi", BIDI)):
        if hit := pattern.search(line):
            found.append((code, line, hit.start()))
    if "\ufffd" in line or (_MAY_BE_MOJIBAKE.search(line) and is_bad(line)):
        found.append(("text.mojibake", line, 0))
    if not unicodedata.is_normalized("NFC", line):
        found.append(("text.not-nfc", line, 0))
    return tuple(found)


_known_faults = lru_cache(maxsize=10_000)(_faults)


def check_answer(row: Row, conversation: Conversation, add: Add) -> None:
    """The row's own columns about its answer against what the assistant says, and their scripts."""
    stated, said = row.values.get("answer"), conversation.answer
    if stated is not None and said is not None and stated != said:
        add("schema.answer", f"{stated} / {said}", 0)
    korean, english = row.values.get("name_ko"), row.values.get("name_en")
    if korean and not has_hangul(korean):
        add("lang.answer", f"`name_ko`: {korean}", 0)
    elif english and has_hangul(english):
        add("lang.answer", f"`name_en`: {english}", 0)


def check_description(row: Row, add: Add) -> None:
    """The description against the language that the row tells of."""
    text, language = row.values.get("description"), row.values.get("language")
    if text and language and not fits_language(text, language):
        add("lang.description", text, 0)


def script_of(answer: str) -> str | None:
    """`en`, `ko`, `both` as in `이상해씨 (Bulbasaur)`, or `other`; None for an answer without letters."""
    if not any(map(str.isalpha, answer)):
        return None
    if len(answer) > LONGEST_NAME:
        return language_of(answer)
    if len(names_of_answer(answer)) == 2:
        return "both"
    if has_hangul(answer):
        return "ko"
    return "en" if fits_language(answer, "en") else "other"


def names_of(row: Row, answer: str | None) -> list[str]:
    """The names that the prompt must not hold: of the columns `name_...` and of a short answer."""
    names = [name for column in ("name_en", "name_ko") if (name := row.values.get(column))]
    for column, name in row.values.items():
        if (
            name
            and column.startswith("name_")
            and column[5:] not in ANSWER_LANGUAGES
            and fold(name) not in ORDINARY_WORDS
        ):
            names.append(name)
    if answer and len(answer) <= LONGEST_NAME:
        names += names_of_answer(answer)
    return list(dict.fromkeys(names))


def check_leak(prompt: str, names: Sequence[str], add: Add) -> tuple[str, str] | None:
    """The row's names in its prompt, matched as masking matches a creature's own.

    Returns:
        A word that is nearly a name, and an excerpt around it, when no name stands there.
    """
    if not unicodedata.is_normalized("NFC", prompt):
        prompt = unicodedata.normalize("NFC", prompt)
    folded = prompt.lower() if prompt.isascii() and "`" not in prompt else fold(prompt)
    if any(spelling in folded for name in names for spelling in spellings(name)):
        places = own_names_in(prompt, names)
        if places:
            add("leak.own-name", prompt, places[0][0])
            return None
    near = near_name(prompt, folded, names)
    return None if near is None else (near[1], f"{near[1]}: {excerpt(prompt, near[0])}")
