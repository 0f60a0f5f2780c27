"""Records to drafts: clean and mask their texts, and drop what cannot be used, with its reason."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from toolkit.core import Progress
from toolkit.core.answers import ANSWER_LANGUAGES, Names, fold, names_by_language, names_in
from toolkit.core.errors import InputError
from toolkit.core.recipe import DatasetSettings
from toolkit.core.text import CONTROL_TOKEN, clean_text, fits_language
from toolkit.data.duplicates import first_connected, normal_text
from toolkit.data.grammar import Masks
from toolkit.data.masking import Masker, own_names_in
from toolkit.data.near_names import gives_name_away, near_name
from toolkit.data.sources.records import Record, SourceFacts, slug, wanted_languages

REPORT_EVERY = 2_000
# A name in lower case in texts about other creatures, of this many families, is an ordinary word there.
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
    "near-name": "a word that is nearly the name",
    "duplicate": "the same text again for the same creature",
    "ambiguous": "the same text for creatures with different names",
}
"""Why a record is dropped."""


@dataclass(slots=True)
class Creature:
    """A creature as its first record has it; later records may add names.

    Attributes:
        key: Stable id.
        family: Id shared by all creatures that evolve into each other; the key where a source knows no families.
        names: Language code to name.
        origin: Index of its source.
    """

    key: str
    family: str
    names: dict[str, str]
    origin: int = 0

    def answer(self, form: str) -> str | None:
        """The name to answer with (`en`, `ko` or `both`), None when it lacks a language."""
        english, korean = self.names.get("en"), self.names.get("ko")
        if form == "both":
            return f"{korean} ({english})" if english and korean else None
        return english if form == "en" else korean


@dataclass(slots=True)
class Draft:
    """A record on its way to a row: `reason` says why it was dropped, empty while it is kept.

    `origin` is the index of its source.
    """

    creature: Creature
    text: str
    language: str
    origin: int
    source: str
    source_ref: str
    license: str
    parallel: str
    attributes: str
    reason: str = ""
    id: str = ""


@dataclass(slots=True)
class Drafts:
    """All drafts and creatures of one build."""

    all: list[Draft] = field(default_factory=list)
    creatures: dict[str, Creature] = field(default_factory=dict)
    # Pairs of `parallel` whose texts are the same, of which only one is kept.
    same_parallel: list[tuple[str, str]] = field(default_factory=list)
    # Cells with a name in each of several languages, and the names.
    split: dict[str, dict[str, str]] = field(default_factory=dict)
    # Those that two records name in different languages, the same by their key alone.
    by_key: list[Creature] = field(default_factory=list)

    def kept(self) -> list[Draft]:
        """Drafts that nothing has dropped so far."""
        return [draft for draft in self.all if not draft.reason]


def read_drafts(
    sources: Sequence[tuple[SourceFacts, Iterable[Record]]], settings: DatasetSettings, progress: Progress
) -> Drafts:
    """Read, clean and drop: a draft of every record, each unusable one with its reason, and the creatures of all.

    Raises:
        InputError: Names of two languages would be one creature's by keys that are numbers of rows.
    """
    drafts = Drafts()
    for origin, (_, records) in enumerate(sources):
        for record in records:
            drafts.all.append(_draft(drafts, record, origin))
            if len(drafts.all) % REPORT_EVERY == 0:
                progress("reading", len(drafts.all), None)
    progress("reading", len(drafts.all), len(drafts.all))
    for language in ANSWER_LANGUAGES:
        names = [creature.names[language] for creature in drafts.by_key if language in creature.names]
        if names and len(names) >= 2 * len(set(names)):
            found = f"The sources share keys that number rows: {len(names):,} for {len(set(names)):,} names."
            raise InputError(found, "Give each creature one `key` in all sources, or rename those columns.")
    _merge_creatures(drafts, [facts for facts, _ in sources])
    languages = wanted_languages(settings)
    for draft in drafts.all:
        draft.reason = _unusable(draft.text, draft.language, languages, draft.creature, settings)
    return drafts


def _draft(drafts: Drafts, record: Record, origin: int) -> Draft:
    return Draft(
        creature=_creature_of(drafts, record, origin),
        text=clean_text(record.description),
        language=sys.intern(record.language),
        origin=origin,
        source=record.source,
        source_ref=record.source_ref,
        license=sys.intern(record.license),
        parallel=record.parallel,
        attributes=json.dumps(dict(record.attributes), ensure_ascii=False, sort_keys=True),
    )


def _merge_creatures(drafts: Drafts, sources: Sequence[SourceFacts]) -> None:
    creatures = list(drafts.creatures.values())
    stands_for = merge_creatures(creatures)
    for origin, facts in enumerate(sources):
        its = {creature.key: stands_for[creature.key].key for creature in creatures if creature.origin == origin}
        if merged := len(its) - len(set(its.values())):
            facts.notes.append(f"{facts.location}: {merged:,} keys are of a creature that another key names too")
    for draft in drafts.all:
        draft.creature = stands_for[draft.creature.key]
    drafts.creatures = {creature.key: creature for creature in stands_for.values()}


def merge_creatures(creatures: Sequence[Creature]) -> dict[str, Creature]:
    """Merge creatures with the same English or Korean name; return the merged one by each old key.

    Key and family are those of the first source that knows families, else of the first source. The names of all stay,
    and the families of merged creatures become one family; one that is called as a creature is that creature's
    (`evolves_from`). A name merges nothing when its creatures have different names in the other language.
    """
    ordered = sorted(creatures, key=lambda creature: creature.family == creature.key)
    standing = [ordered[first] for first in first_connected(len(ordered), _same_names(ordered)).tolist()]
    families = list(dict.fromkeys(creature.family for creature in ordered))
    number = {family: index for index, family in enumerate(families)}
    pairs = []
    for creature, first in zip(ordered, standing, strict=True):
        pairs.append((number[first.family], number[creature.family]))
        for language, name in creature.names.items():
            first.names.setdefault(language, name)
    named = {slug(name): number[creature.family] for creature in ordered for name in creature.names.values()}
    pairs += [(place, named[slug(family)]) for family, place in number.items() if slug(family) in named]
    joined = first_connected(len(families), pairs)
    for creature in ordered:
        creature.family = families[joined[number[creature.family]]]
    return {creature.key: first for creature, first in zip(ordered, standing, strict=True)}


def _same_names(creatures: Sequence[Creature]) -> list[tuple[int, int]]:
    """Pairs of creatures, by index, that share a name and have none that differ."""
    named: dict[tuple[str, str], list[int]] = defaultdict(list)
    others: dict[tuple[str, str], set[str]] = defaultdict(set)
    for place, creature in enumerate(creatures):
        names = {code: slug(creature.names[code]) for code in ANSWER_LANGUAGES if code in creature.names}
        for name in names.items():
            named[name].append(place)
            others[name].update(other for code, other in names.items() if code != name[0])
    return [(same[0], other) for name, same in named.items() if len(others[name]) < 2 for other in same[1:]]


def _creature_of(drafts: Drafts, record: Record, origin: int) -> Creature:
    """The creature of a record's key; where that has another name, one of its own: some keys are numbers of rows."""
    key, creature = record.key, drafts.creatures.get(record.key)
    if creature is not None and all(creature.names.get(code) == name for code, name in record.names.items()):
        return creature
    names = _names(record, drafts.split)
    if creature is not None and (other := _other_name(creature, names)):
        key = f"{key}/{slug(other)}"
        creature = drafts.creatures.get(key)
    if creature is not None and names and creature.names.keys().isdisjoint(names):
        drafts.by_key.append(creature)
    if creature is None:
        family = key if record.family == record.key else record.family
        creature = drafts.creatures[key] = Creature(key, clean_text(family), {}, origin)
    creature.names = names | creature.names
    return creature


def _other_name(creature: Creature, names: Mapping[str, str]) -> str | None:
    """The first of the names that is not the creature's in that language, however it is written."""
    both = [(creature.names[code], names[code]) for code in ANSWER_LANGUAGES if code in names.keys() & creature.names]
    return next((name for known, name in both if slug(known) != slug(name)), None)


def _names(record: Record, split: dict[str, dict[str, str]]) -> dict[str, str]:
    """A record's names, cleaned; of a cell with a name in each of several languages, its own language's and the others.

    Such a cell is added to `split`.
    """
    names = {language: cleaned for language, name in record.names.items() if (cleaned := clean_text(name))}
    for language in ANSWER_LANGUAGES:
        cell = names.get(language, "")
        parts = names_by_language(cell)
        if language in parts:
            names = parts | names | {language: parts[language]}
            split[cell] = parts
    return names


def _unusable(text: str, language: str, languages: Sequence[str], creature: Creature, settings: DatasetSettings) -> str:
    """Why a cleaned text cannot be used, before names are masked; empty when it can."""
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


def mask_names(drafts: Drafts, settings: DatasetSettings, progress: Progress) -> None:
    """Mask names in every kept draft, then apply the limits on length."""
    names = {creature.key: creature.names for creature in drafts.creatures.values()}
    masks = {
        "en": Masks(settings.mask, settings.mask_of_others("en")),
        "ko": Masks(settings.korean_mask, settings.mask_of_others("ko")),
    }
    kept = drafts.kept()
    masker = Masker(names, masks, _ordinary_words(kept, Masker(names, masks)))
    for number, draft in enumerate(kept, 1):
        draft.text = masker.mask(draft.text, draft.creature.key, draft.language)
        if len(draft.text) < settings.min_characters:
            draft.reason = "too-short"
        elif len(draft.text) > settings.max_characters:
            draft.reason = "too-long"
        elif own_names_in(draft.text, chain.from_iterable(parts.sure for parts in _own_names(draft.creature))):
            draft.reason = "unmaskable"
        if number % REPORT_EVERY == 0 or number == len(kept):
            progress("masking", number, len(kept))


def drop_near_names(drafts: Drafts) -> None:
    """Drop texts with a word that is nearly their creature's name, unless it is an ordinary word."""
    kept = drafts.kept()
    own = (chain.from_iterable(map(chain.from_iterable, _own_names(draft.creature))) for draft in kept)
    near = [(draft, near_name(draft.text, fold(draft.text), names)) for draft, names in zip(kept, own, strict=True)]
    found = [(draft, hit[1]) for draft, hit in near if hit]
    hits = [(word, draft.creature.family) for draft, word in found]
    away = gives_name_away(hits, ((draft.text, draft.creature.family) for draft in kept))
    for (draft, _), named in zip(found, away, strict=True):
        if named:
            draft.reason = "near-name"


def _own_names(creature: Creature) -> list[Names]:
    return [names_in(creature.names[language]) for language in ANSWER_LANGUAGES if language in creature.names]


def _ordinary_words(drafts: list[Draft], masker: Masker) -> set[str]:
    """Names that the descriptions of unrelated creatures use in lower case."""
    users: dict[str, set[str]] = defaultdict(set)
    for draft in drafts:
        if draft.language == "en":
            for word in masker.lower_case_words(draft.text, draft.creature.key):
                if len(users[word]) < ORDINARY_FAMILIES:
                    users[word].add(draft.creature.family)
    return {word for word, families in users.items() if len(families) >= ORDINARY_FAMILIES}


def drop_repeated(drafts: Drafts, settings: DatasetSettings) -> None:
    """Drop repeated texts of a creature, and all copies of a text that has different answers."""
    # Digests, since a million texts are a quarter of a gigabyte.
    seen: dict[bytes, str] = {}
    answers: dict[bytes, str | None] = {}
    texts: dict[int, bytes] = {}
    kept = drafts.kept()
    for place, draft in enumerate(kept):
        text, answer = _digest(normal_text(draft.text)), draft.creature.answer(settings.answer)
        of_creature = _digest(draft.creature.key) + text
        if of_creature in seen:
            draft.reason = "duplicate"
            if draft.parallel:
                drafts.same_parallel.append((seen[of_creature], draft.parallel))
            continue
        seen[of_creature] = draft.parallel
        texts[place] = text
        if answers.setdefault(text, answer) != answer:
            answers[text] = None
    for place, text in texts.items():
        if answers[text] is None:
            kept[place].reason = "ambiguous"


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=12).digest()
