"""Records to drafts: clean, mask, and drop what can not be used, with its reason. Knows nothing of splits and files."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from toolkit.duplicates import normal_text
from toolkit.grammar import Masks
from toolkit.masking import Masker, own_names_in
from toolkit.recipe import DatasetSettings
from toolkit.record import Record
from toolkit.sources.facts import wanted_languages
from toolkit.text import CONTROL_TOKEN, clean_text, fits_language

Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, how many are done, and of how many (None: not known)."""

REPORT_EVERY = 2_000
# A word in lower case in the descriptions of this many families is an ordinary word there, whatever creature it names.
ORDINARY_FAMILIES = 2

DROPPED = {
    "language": "in a language that was not asked for",
    "empty": "no text",
    "no-name": "no name",
    "no-answer": "no name in the language of the answer",
    "control-token": "a control token of a chat template in the text",
    "broken": "characters that were lost before the text came here",
    "wrong-letters": "not the letters of its language",
    "too-short": "too short",
    "too-long": "too long",
    "unmaskable": "the mask would say the name",
    "duplicate": "the same text again for the same creature",
    "ambiguous": "the same text for creatures with different names",
}
"""Why a record is dropped."""


@dataclass(slots=True)
class Creature:
    """A creature as its first record tells it; later ones may add names."""

    key: str
    family: str
    names: dict[str, str]

    def answer(self, form: str) -> str | None:
        """The name to answer with, None when it lacks a language."""
        english, korean = self.names.get("en"), self.names.get("ko")
        if form == "both":
            return f"{korean} ({english})" if english and korean else None
        return english if form == "en" else korean


@dataclass(slots=True)
class Draft:
    """A record on its way: `reason` says why it was dropped, empty while it is kept."""

    creature: Creature
    text: str
    language: str
    source: str
    source_ref: str
    license: str
    attributes: str
    reason: str = ""
    id: str = ""


@dataclass(slots=True)
class Work:
    """All drafts and creatures of one build."""

    drafts: list[Draft] = field(default_factory=list)
    creatures: dict[str, Creature] = field(default_factory=dict)

    def kept(self) -> list[Draft]:
        """Drafts that nothing has dropped so far."""
        return [draft for draft in self.drafts if not draft.reason]


def read_drafts(records: Iterable[Record], settings: DatasetSettings, report: Progress) -> Work:
    """Clean every record and drop what can not be used as it came; creatures are gathered on the way."""
    work = Work()
    languages = wanted_languages(settings)
    for number, record in enumerate(records, 1):
        creature = _known(work, record)
        text = clean_text(record.description)
        work.drafts.append(
            Draft(
                creature=creature,
                text=text,
                language=record.language,
                source=record.source,
                source_ref=record.source_ref,
                license=record.license,
                attributes=json.dumps(dict(record.attributes), ensure_ascii=False, sort_keys=True),
                reason=_unusable(text, record.language, languages, creature, settings),
            )
        )
        if number % REPORT_EVERY == 0:
            report("reading", number, None)
    report("reading", len(work.drafts), len(work.drafts))
    return work


def _known(work: Work, record: Record) -> Creature:
    creature = work.creatures.get(record.key)
    if creature is None:
        names = {language: cleaned for language, name in record.names.items() if (cleaned := clean_text(name))}
        creature = work.creatures[record.key] = Creature(record.key, clean_text(record.family), names)
    elif not record.names.keys() <= creature.names.keys():
        for language, name in record.names.items():
            if language not in creature.names and (cleaned := clean_text(name)):
                creature.names[language] = cleaned
    return creature


def _unusable(text: str, language: str, languages: Sequence[str], creature: Creature, settings: DatasetSettings) -> str:
    """Why a cleaned text can not be used, before names are masked; empty when it can."""
    if language not in languages:
        return "language"
    if not text:
        return "empty"
    if not creature.names:
        return "no-name"
    answer = creature.answer(settings.answer)
    if answer is None:
        return "no-answer"
    if CONTROL_TOKEN.search(text) or CONTROL_TOKEN.search(answer):
        return "control-token"
    if "\ufffd" in text:
        return "broken"
    return "" if fits_language(text, language) else "wrong-letters"


def mask_names(work: Work, settings: DatasetSettings, report: Progress) -> None:
    """Mask names in every kept draft, then apply the limits on length."""
    names = {creature.key: creature.names for creature in work.creatures.values()}
    masks = {
        "en": Masks(settings.mask, settings.other_mask),
        "ko": Masks(settings.korean_mask, settings.korean_other_mask),
    }
    kept = work.kept()
    masker = Masker(names, masks, _ordinary_words(kept, Masker(names, masks)))
    for number, draft in enumerate(kept, 1):
        draft.text = masker.mask(draft.text, draft.creature.key, draft.language)
        own = [draft.creature.names[language] for language in ("en", "ko") if language in draft.creature.names]
        if len(draft.text) < settings.min_characters:
            draft.reason = "too-short"
        elif len(draft.text) > settings.max_characters:
            draft.reason = "too-long"
        elif own_names_in(draft.text, own):
            draft.reason = "unmaskable"
        if number % REPORT_EVERY == 0 or number == len(kept):
            report("masking", number, len(kept))


def _ordinary_words(drafts: list[Draft], masker: Masker) -> set[str]:
    """Names that the descriptions of unrelated creatures use in lower case."""
    users: dict[str, set[str]] = defaultdict(set)
    for draft in drafts:
        if draft.language == "en":
            for word in masker.lower_case_words(draft.text, draft.creature.key):
                if len(users[word]) < ORDINARY_FAMILIES:
                    users[word].add(draft.creature.family)
    return {word for word, families in users.items() if len(families) >= ORDINARY_FAMILIES}


def drop_repeated(work: Work, settings: DatasetSettings) -> None:
    """Drop a text that its creature has already, and all copies of one that asks for different answers."""
    seen: set[tuple[str, str]] = set()
    answers: dict[str, str | None] = {}
    for draft in work.kept():
        text, answer = normal_text(draft.text), draft.creature.answer(settings.answer)
        if (draft.creature.key, text) in seen:
            draft.reason = "duplicate"
            continue
        seen.add((draft.creature.key, text))
        if answers.setdefault(text, answer) != answer:
            answers[text] = None
    for draft in work.kept():
        if answers[normal_text(draft.text)] is None:
            draft.reason = "ambiguous"
