"""An answer, or a cell of names, in; the names that it states out: `불꼬리(Emberling)` states two.

Marks separate names of any script, and a change of script alone does. What says which one is meant (`Alolan Form`,
`Mega X`, `grass type`) is no name.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from toolkit.core.text import fits_language, has_hangul, language_of

ANSWER_LANGUAGES = ("en", "ko")
LONGEST_ANSWER_NAME = 60
"""The most letters of an answer that may be a name; a longer one is a sentence, whose words the prompt may hold."""
SAME_SCRIPT = 0.9
"""The share of answers in one script that makes it the usual one."""
MOST_NAMES, MOST_WORDS = 4, 5
"""A text of more parts, or with a longer one, is a sentence."""

_LATIN, _CJK = "A-Za-zÀ-ɏ", "\u3040-\u30ff\u4e00-\u9fff"
_ALIAS = r"[/／|｜;；]|<br ?/?>|\b(?:a\.?k\.?a\b\.?|alias|also known as|일명|또는|혹은)(?=[\s:])"
_LIST = r"[,，、·・]"
_BRACKET = r"[()（）\[\]［］{}<>＜＞【】〈〉《》「」『』]"
_MARK = rf"\s*(?:{_ALIAS}|{_LIST}|{_BRACKET})[\s:]*"
_GAP = r"(?:[^\w♀♂.]|_|\.(?!\s))*"
_BETWEEN_SCRIPTS = (
    rf"(?:(?<=[가-힣])|(?<=[가-힣][♀♂])){_GAP}(?=[{_LATIN}]{{3}}|[{_CJK}])"
    rf"|(?:(?<=[{_LATIN}{_CJK}]{{2}})|(?<=[{_LATIN}][♀♂.])){_GAP}(?=[가-힣])"
)
_SEPARATOR = re.compile(f"{_MARK}|{_BETWEEN_SCRIPTS}", re.IGNORECASE)
# Words that say which one is meant: those that end such a part, and those that it may consist of.
_KINDS = "form forme forms mode style cloak size type male female 폼 모습 모드 스타일 타입 수컷 암컷"
_SIGNS = (
    "mega primal gigantamax dynamax shiny alola alolan galar galarian hisui hisuian paldea paldean x y vmax "
    "메가 원시 거다이맥스 이로치 알로라 가라르 히스이 팔데아"
)
_KIND_WORDS = frozenset(_KINDS.split())
_SIGN_WORDS = _KIND_WORDS.union(_SIGNS.split())


class _Fold(dict[int, str]):
    """Lower case, Latin letters without diacritics, one apostrophe, one hyphen: character by character, so that places
    in the folded text are places in the text."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        lower = letter.lower()
        base = unicodedata.normalize("NFD", lower)[0] if len(lower) == 1 else letter
        self[code] = base if base.isascii() else (lower if len(lower) == 1 else letter)
        return self[code]


_FOLD = _Fold({ord(sign): "'" for sign in "’‘ʼ´`"} | {ord(sign): "-" for sign in "‐‑−"})


def fold(text: str) -> str:
    """The text as names are compared: of the same length."""
    return text.lower() if text.isascii() and "`" not in text else text.translate(_FOLD)


class Names(NamedTuple):
    """The names of an answer: those that it surely states, and parts that may as well be words: `Castform (Sunny)`."""

    sure: tuple[str, ...]
    likely: tuple[str, ...] = ()


class _Part(NamedTuple):
    """A part of a cell, `cell[start:end]`, and the mark before it; no language without letters."""

    mark: str
    text: str
    language: str
    start: int
    end: int

    @property
    def is_name(self) -> bool:
        words = re.findall(r"[^\W_]+", self.text.lower())
        phrase = len(words) > 1 and self.text[0].islower()
        return bool(self.language) and not (phrase or words[-1] in _KIND_WORDS or set(words) <= _SIGN_WORDS)


@lru_cache(maxsize=200_000)
def names_in(answer: str) -> Names:
    """The names of an answer or a cell: itself where it is no list of names."""
    parts = _parts(unicodedata.normalize("NFC", answer))
    names = [part for part in parts if part.is_name]
    if len(parts) < 2 or not names:
        return Names((answer,))
    bare = not any(part.mark.strip() for part in parts)
    listed = len({part.language for part in parts}) == 1 and any(re.search(_LIST, part.mark) for part in parts)
    if len(names) == len(parts) and (bare or listed):
        # A sentence may have commas, or a word of another script.
        return Names((answer,), tuple(part.text for part in names))
    sure = {names[0].text: None}
    for place, part in enumerate(names):
        if part.language not in {earlier.language for earlier in names[:place]} or re.search(_ALIAS, part.mark, re.I):
            sure[part.text] = None
    return Names(tuple(sure), tuple(part.text for part in names if part.text not in sure))


def names_by_language(cell: str) -> dict[str, str]:
    """`{"ko": "불꼬리", "en": "Emberling"}` for a cell with one name in each of several languages, else nothing."""
    spans: list[_Part] = []
    for part in _parts(cell):
        if spans and part.language in (spans[-1].language, ""):
            spans[-1] = spans[-1]._replace(end=part.end)
        elif part.is_name:
            spans.append(part)
        else:
            return {}
    names = {span.language: _closed(cell, span.start, span.end) for span in spans}
    return names if 1 < len(names) == len(spans) and all(names.values()) else {}


def _closed(cell: str, start: int, end: int) -> str:
    """A span of a cell with the bracket that closes it, without marks around; empty for `불꼬리 (영어:`."""
    texts = (cell[start:end], cell[start : end + 1])
    whole = (text for text in texts if len(re.findall(r"[(（\[［{<]", text)) == len(re.findall(r"[)）\]］}>]", text)))
    return next(whole, "").strip(' \t\n*_~"“”«»')


def _parts(cell: str) -> list[_Part]:
    """The parts of a cell between marks and changes of script; none where it is a sentence, an address or of mixed
    scripts."""
    parts: list[_Part] = []
    mark, start = "", 0
    for separator in (*_SEPARATOR.finditer(cell), None):
        end = separator.start() if separator else len(cell)
        if text := cell[start:end].strip():
            language = _language(text)
            if language is None or len(text.split()) > MOST_WORDS:
                return []
            parts.append(_Part(mark, text, language, start, end))
            mark = ""
        if separator:
            mark, start = mark + separator[0], separator.end()
    return [] if len(parts) > MOST_NAMES or "://" in cell else parts


def _language(text: str) -> str | None:
    """Of a part: `ko`, `en`, `other`; empty without a name's letters, None for Korean mixed with Latin words."""
    latin = len(re.findall(f"[{_LATIN}]", text))
    if has_hangul(text):
        return None if latin > 2 else "ko"
    if any(letter.isalpha() and letter > "ɏ" for letter in text):
        return "other"
    return "en" if latin > 1 else ""


def answer_keys(answer: str) -> set[str]:
    """By which an answer is the same as another: in any case and spelling, or with a name in another language beside
    it. What says which one is meant counts."""
    names = (answer, *names_by_language(answer).values())
    return {key for name in names if (key := re.sub(r"[^\w♀♂]|_", "", fold(unicodedata.normalize("NFC", name))))}


def script_of(answer: str) -> str | None:
    """`en`, `ko`, `both` as in `이상해씨 (Bulbasaur)`, or `other`; None for an answer without letters."""
    if not any(map(str.isalpha, answer)):
        return None
    if len(answer) > LONGEST_ANSWER_NAME:
        return language_of(answer)
    if (both := re.fullmatch(r"(.+?) \(.+\)", answer)) and has_hangul(both[1]):
        return "both"
    if has_hangul(answer):
        return "ko"
    return "en" if fits_language(answer, "en") else "other"
