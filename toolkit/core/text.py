"""Clean a text, tell its language by its letters, find tokens of chat templates, and escape what cannot be seen."""

from __future__ import annotations

import re
import unicodedata

import ftfy

_FTFY = ftfy.TextFixerConfig(uncurl_quotes=False, explain=False)
# The game texts break words at line ends with a soft hyphen, and real hyphens and dashes stand at line ends as well.
_SOFT_HYPHEN = re.compile(r"\u00ad(?:[ \t]*[\r\n\f]+[ \t]*)?")
_HYPHEN_AT_LINE_END = re.compile(r"(?<=\w)([-\u2010\u2011—])[ \t]*[\r\n\f]+[ \t]*(?=\w)")
_SPACE = re.compile(r"\s+")
# Most texts, which need no mending: single spaces, and no ampersand, which may begin an HTML entity.
_CLEAN_ASCII = re.compile(r"(?:[!-%'-~]+(?: (?! |\Z))?)*+")

BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that change the direction of the text around them, and so what a reader believes it says."""

INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200d\u2060-\u2065"
    "\u206a-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\U000e0000-\U000e0fff]"
)
"""Control and zero-width characters, line breaks and tabs excepted."""

# Tokens with which the known chat templates (Gemma, Llama, Qwen, Mistral, Phi, EXAONE, ...) mark turns.
_CONTROL_TOKEN = re.compile(
    r"</?(?:start_of_turn|end_of_turn|bos|eos|pad|unk|mask|s|sep|cls|start_of_image|end_of_image|image_soft_token"
    r"|unused\d+|channel|turn)>|<[|｜][^<>|｜\s]{1,40}[|｜]?>|<[a-z_]{1,20}[|｜]>|\[/?INST\]|\[/?(?:SYSTEM|AVAILABLE)_\w+\]"
    r"|<</?SYS>>|\[\|[a-z]{1,20}\|\]",
    re.IGNORECASE,
)
_HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")
_LATIN = re.compile("[A-Za-z\u00aa\u00ba\u00c0-\u024f\u1e00-\u1eff]")


def clean_text(text: str) -> str:
    """One line of readable text: mojibake mended, NFC, words joined over line ends, spaces folded, invisibles removed.

    Cleaning a clean text changes nothing.
    """
    while not _CLEAN_ASCII.fullmatch(text) and (cleaned := _clean_once(text)) != text:
        text = cleaned
    return text


def _clean_once(text: str) -> str:
    text = _SOFT_HYPHEN.sub("", text)
    text = _HYPHEN_AT_LINE_END.sub(r"\1", text)
    text = ftfy.fix_text(text, _FTFY)
    text = INVISIBLE.sub("", BIDI.sub("", _SPACE.sub(" ", text)))
    return unicodedata.normalize("NFC", _SPACE.sub(" ", text)).strip()


def has_hangul(text: str) -> bool:
    """Whether any Korean letter is in the text."""
    return _HANGUL.search(text) is not None


def language_of(text: str) -> str:
    """`ko` where at least a third of the letters are Korean, else `en`: letters alone tell no more."""
    letters = sum(map(str.isalpha, text))
    return "ko" if letters and len(_HANGUL.findall(text)) * 3 >= letters else "en"


def fits_language(text: str, language: str) -> bool:
    """Whether the letters of a text can be those of a language: half Korean for `ko`, four fifths Latin for `en`.

    A text without letters fits none; any text with letters fits a language that is neither.
    """
    if text.isascii():
        return language != "ko" and any(map(str.isalpha, text))
    letters = sum(map(str.isalpha, text))
    if language == "ko":
        return letters > 0 and len(_HANGUL.findall(text)) * 2 >= letters
    if language == "en":
        return letters > 0 and len(_LATIN.findall(text)) * 5 >= letters * 4
    return letters > 0


def control_token(text: str) -> re.Match[str] | None:
    """The first token of a chat template in a text."""
    return _CONTROL_TOKEN.search(text) if "<" in text or "[" in text else None


def natural(text: str) -> str:
    """A sort key by which `pokemon/9` comes before `pokemon/10`."""
    return re.sub(r"\d+", lambda digits: digits[0].zfill(12), text)


def printable(text: str) -> str:
    """The text with everything that cannot be seen, line breaks too, as escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
