"""Put a mask into an English or Korean sentence in the place of a name, so that its grammar stays right."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Masks:
    """What stands in for the creature's own name and for another creature's."""

    own: str
    other: str


Placed = tuple[str, str, int]
"""Text kept before the mask, the mask as written, and the place in the text after what it replaces."""

_SENTENCE_START = re.compile(r"(?:^|[.!?…][\"'”’)\]]*\s+)[\"'“‘(\[]*$")
_ARTICLE = re.compile(r"(?:^|(?<=[\s(\[\"'“‘—–-]))(a|an|the|this)\s$", re.IGNORECASE)
# After these the noun alone is right: `two Pokémon`, never `two this Pokémon`.
_NOUN_ONLY = re.compile(
    r"\b(?:these|those|two|three|four|five|six|seven|eight|nine|ten|hundreds? of|dozens? of|many|several|some|all|each|"
    r"every|any|no|one|other|another|its|their|his|her|your|our|my|own|fellow|male|female|elderly|various|numerous|"
    r"single|countless|wild|nearby|alolan|galarian|hisuian|paldean|red|blue|green|yellow|black|white|pink|purple|brown|"
    r"gr[ae]y|\w+-\w+ed)\s$",
    re.IGNORECASE,
)
_ADJECTIVE = re.compile(
    r"\b(?:a|an|the|another|its|their|two|three|some|many|every|each|no)\s(?:very\s|fully\s|\w+ly\s)?"
    r"(?!(?:even|morn|be|noth|anyth|someth|everyth|ceil|light|build|feel|mean|open|find|end)ing\s)"
    r"(?:(?=\w*[aeiou]\w*ing\s)\w{3,}ing|[\w-]{2,}(?:ed|ous|ful|less|ic|ive|ary|ish|able|ible)|[\w-]+-lived|grown|new|"
    r"young|old|small|large|big|huge|tiny|little|larger|smaller|weaker|adult|baby|lonely|frozen|whole|host|former|famous|"
    r"evil|strange|strong|weak|angry|friendly|common|rare|shiny)\s$",
    re.IGNORECASE,
)
# Verbs without an s after a name: there are several of the creature (`Where Swadloon live`).
_PLURAL_VERB = re.compile(
    r"(?:\sthat)?\s(?:also\s|often\s|always\s|never\s|both\s|\w+ly\s)?"
    r"(?:are|aren[’']t|were(?!\sto\b)|weren[’']t|have|haven[’']t|don[’']t|become|build|burrow|catch|communicate|compete|"
    r"convert|create|dig|dwell|eat|evolve|fight|fly|gather|get|give|greet|grow|hear|hunt|latch|lay|live|love|make|meet|molt|"
    r"pursue|raise|seem|seize|sleep|snatch|swim|swoop|tend|travel|try|use|want|withdraw)\b"
)
_NOT_SUBJECT = re.compile(
    r"\b(?:of|in|on|at|by|for|from|to|with|like|than|and|or|as|into|between|against|does|did|do|can|could|will|would|"
    r"should|must|may|might|make|makes|made|let|lets|help|helps|see|sees|seen|watch|watches|hear|hears)\s$",
    re.IGNORECASE,
)
# After these there are several of the creature (`swarms of Cutiefly`).
_GROUP_OF = re.compile(
    r"\b(?:swarms?|schools?|packs?|groups?|hordes?|flocks?|herds?|crowds?|lots|pairs?|colon(?:y|ies)) of\s$",
    re.IGNORECASE,
)
_DETERMINERS = ("this ", "another ", "the ", "a ", "an ")
_PLURALS = {"this ": "these ", "another ": "other ", "a ": "", "an ": ""}


def mask_english(text: str, place: int, start: int, end: int, mask: str, plural: bool) -> Placed:
    """Put an English mask for `text[start:end]`; the text up to `place` is already written.

    An article before the name is left out, a mask that starts a sentence gets a capital letter, and after another
    determiner only the mask's noun is written.
    """
    before = text[max(place, start - 80) : start]
    ending, rest = _possessive(text, start, end)
    if before.endswith("-") or _NOUN_ONLY.search(before) or _ADJECTIVE.search(before):
        return text[place:start], (_many(_noun(mask)) if plural else _noun(mask)) + ending, rest
    article = _ARTICLE.search(before)
    if article and text[end : end + 1] == "-" and text[end + 1 : end + 2].isalpha():
        return text[place : start - len(article[0])], _with_article(article[1], _noun(mask)), rest
    many = plural or _GROUP_OF.search(before) or (_PLURAL_VERB.match(text, end) and not _NOT_SUBJECT.search(before))
    if article:
        many = many and article[1].lower() == "the"
        mask = _capital(_plural(mask) if many else mask, article[1][0].isupper())
        return text[place : start - len(article[0])], mask + ending, rest
    if many:
        mask = _plural(mask)
    first = bool(_SENTENCE_START.search(text[max(0, start - 80) : start]))
    return text[place:start], _capital(mask, first) + ending, rest


def tidy_english(text: str, masks: Masks) -> str:
    """Fold `another Pokémon and another Pokémon` into `other Pokémon`."""
    other = masks.other
    if not other.startswith("another "):
        return text
    pair = re.compile(
        rf"\b([Aa])nother {re.escape(_noun(other))}(?:,? and|,) another {re.escape(_noun(other))}(?![\w’'-])"
    )
    return pair.sub(lambda found: ("Other " if found[1] == "A" else "other ") + _noun(other), text)


def tidy_korean(text: str, masks: Masks) -> str:
    """Fold a list of other creatures (`다른 포켓몬과 다른 포켓몬`) into one mention."""
    other = re.escape(masks.other)
    return re.sub(rf"(?:{other}(?:, |과 |와 |이나 |나 ))+(?={other})", "", text)


def _noun(mask: str) -> str:
    return next((mask.removeprefix(word) for word in _DETERMINERS if mask.startswith(word)), mask)


def _plural(mask: str) -> str:
    return next((many + _many(mask.removeprefix(one)) for one, many in _PLURALS.items() if mask.startswith(one)), mask)


def _many(noun: str) -> str:
    return noun if noun.endswith("Pokémon") else f"{noun}s"


def _capital(mask: str, wanted: bool) -> str:
    return mask[:1].upper() + mask[1:] if wanted else mask


def _with_article(article: str, noun: str) -> str:
    if article.lower() in ("a", "an"):
        article = article[0] + ("n" if noun[:1].lower() in "aeiou" else "")
    return f"{article} {noun}"


def _possessive(text: str, start: int, end: int) -> tuple[str, int]:
    """What to add for a bare apostrophe after a name that ends in s (`Tauros’ horns`), and where the text goes on."""
    mark = text[end : end + 1]
    quoted = text[max(0, start - 1) : start] in ("'", "‘")
    if mark and mark in "'’" and not quoted and text[end - 1] in "sS" and not text[end + 1 : end + 2].isalnum():
        return f"{mark}s", end + 1
    return "", end


PARTICLES = re.compile(
    "(?:들|끼리)?"
    "(?:에게서|에게|에서|에|께서|께|한테서|한테|으로부터|로부터|부터|까지|으로서|로서|으로써|로써|으로|로|과|와|이랑|랑|하고|처럼|만큼|보다|같이"
    "|마다|조차|마저|밖에|뿐|대로|따위|이나|나|이라는|라는|이라고|라고|이라도|라도|이라면|라면|이라서|라서|이란|란|이든|든|이야말로|야말로"
    "|이야|야|이여|여|이며|며|이고|고|이지만|지만|이다|다|이었다|였다|입니다|이에요|예요|일수록|인|일|임|의|이면|면|이니까|니까|아)?"
    "(?:은|는|이|가|을|를|도|만|의|까지|부터|조차|이나|나|라도|이다|다|였다){0,2}"
)
"""What may follow a Korean noun within the same word."""

# Each pair: the form after a consonant, the form after a vowel.
_FORMS = (
    *["으로/로", "이랑/랑", "이나/나", "이라/라", "이란/란", "이든/든", "이야/야", "이여/여", "이에요/예요", "이면/면"],
    *["이며/며", "이고/고", "이지만/지만", "이니까/니까", "이었/였", "이다/다", "은/는", "을/를", "과/와", "이/가"],
)
_TO_VOWEL = {pair.partition("/")[0]: pair.partition("/")[2] for pair in _FORMS}
_TO_CONSONANT = {vowel: consonant for consonant, vowel in _TO_VOWEL.items()}


def _any_of(forms: Iterable[str], call: str) -> re.Pattern[str]:
    """One of the particles; a call (`피카츄야, 가자`) only where nothing else can be meant; not the 이 of `이네`."""
    ends = (f"{form}(?![가-힣])" if form in ("이", "가") else form for form in sorted(forms, key=len, reverse=True))
    return re.compile("|".join([f"(?P<call>{call})", *ends]))


_AFTER_CONSONANT = _any_of(_TO_VOWEL, "아(?![가-힣])")
_AFTER_L = _any_of([*_TO_VOWEL, "로"], "아(?![가-힣])")
_AFTER_VOWEL = _any_of(_TO_CONSONANT, "야(?=,)")
_EITHER = _any_of(_TO_VOWEL | _TO_CONSONANT, "아(?![가-힣])|야(?=,)")
# What may stand between a noun and its particle: closing marks, a remark in brackets, a space by mistake.
_CLOSING = r"(?:['\"’”❞＂»›」』》〉〕】\])}）］＞>*_~`™®]|</\w+>)"
_BETWEEN = re.compile(rf"(?: ?(?:\([^()]*\)|（[^（）]*）|\[[^\[\]]*\]))?{_CLOSING}*(?: (?=[는를을](?!\w)))?")
# Brackets behind a word: the particle after them is that word's.
_REMARK = re.compile(r"\w[(（\[［][^()（）\[\]［］]*\Z")


def mask_korean(text: str, place: int, start: int, end: int, mask: str, plural: bool) -> Placed:
    """Put a Korean mask for `text[start:end]`; the particle after it takes the form that fits the mask's last sound.

    Closing quotes and brackets may stand before the particle. The text ends where the next name begins, at the latest.
    """
    was = _final(text[start:end])
    forms = _EITHER if was is None else _AFTER_L if was == "ㄹ" else _AFTER_CONSONANT if was else _AFTER_VOWEL
    between = _BETWEEN.match(text, end)
    after = between.end() if between else end
    particle = forms.match(text, after)
    if particle is None or (re.search(r"[)）\]］]", text[end:after]) and _REMARK.search(text[place:start])):
        return text[place:start], mask, end
    consonant, vowel = _TO_CONSONANT.get(particle[0], particle[0]), _TO_VOWEL.get(particle[0], particle[0])
    if particle["call"]:
        consonant, vowel = "아", "야"
    form = _fitting(consonant, vowel, _final_read(mask))
    return text[place:start], mask + text[end:after] + form, particle.end()


def _fitting(consonant: str, vowel: str, final: str | None) -> str:
    """The form of a particle for a last sound (`_final`), both forms where that is not known: `은(는)`, `(으)로`."""
    if final is None:
        added = consonant.removesuffix(vowel)
        return f"{consonant}({vowel})" if added == consonant else f"({added}){vowel}"
    # After ㄹ it is 로, as after a vowel.
    return consonant if final and not (final == "ㄹ" and vowel == "로") else vowel


def _final(word: str) -> str | None:
    """How the last syllable ends: `ㄹ`, other consonants as `ㄴ`, empty for a vowel; None when it is no syllable."""
    last = word[-1:]
    if not "\uac00" <= last <= "\ud7a3":
        return None
    final = (ord(last) - 0xAC00) % 28
    return "ㄹ" if final == 8 else "ㄴ" if final else ""


_LATIN_FINALS = {"ㄴ": r"[mn036]|ng", "ㄹ": r"[l178]|le", "": r"[aiouywrszxfvhjé2459]"}


def _final_read(mask: str) -> str | None:
    """As `_final`, for the last word of any mask as Korean reads it; None where that differs: `pet`, `[???]`."""
    word = re.sub(r"[\W_]+\Z", "", mask).lower()
    spoken = (final for final, ends in _LATIN_FINALS.items() if re.search(rf"(?:{ends})\Z", word))
    return next(spoken, _final(word))
