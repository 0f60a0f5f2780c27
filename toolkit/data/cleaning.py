"""Records to drafts: clean and mask their texts, and drop what cannot be used, with its reason."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolkit.core import Progress
from toolkit.core.answers import ANSWER_LANGUAGES, Names, fold, names_by_language, names_in
from toolkit.core.errors import InputError
from toolkit.core.recipe import DatasetSettings
from toolkit.core.text import clean_text, control_token, fits_language
from toolkit.data.batches import BATCH_ROWS, Engine, Rows
from toolkit.data.duplicates import first_connected, text_digest
from toolkit.data.grammar import Masks
from toolkit.data.masking import Masker, own_names_in
from toolkit.data.near_names import FindWords, gives_name_away, near_name, words_by_place
from toolkit.data.sources.records import Record, SourceFacts, slug, wanted_languages

if TYPE_CHECKING:
    import pyarrow as pa

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
class Drafts:
    """All drafts and creatures of one build.

    Attributes:
        engine: What keeps the rows: a draft of each record, with the columns of `DRAFT`, its number among `creatures`
            and what the steps add.
        creatures: What each creature that was read is merged into.
        creature: Of each draft, the number of its creature there.
        reason: Of each draft, why it was dropped; empty while it is kept.
        same_parallel: Pairs of `parallel` whose texts are the same, of which only one is kept.
        split: Cells with a name in each of several languages, and the names.
    """

    engine: Engine
    rows: Rows
    creatures: list[Creature]
    creature: NDArray[np.intp]
    reason: list[str]
    split: dict[str, dict[str, str]]
    same_parallel: list[tuple[str, str]] = field(default_factory=list)

    def kept(self) -> list[int]:
        """The places of drafts that nothing has dropped so far."""
        return [place for place, reason in enumerate(self.reason) if not reason]

    def column(self, name: str) -> list[Any]:
        """A small column of all drafts."""
        return list(self.engine.collect(self.rows, [name])[name].to_pylist())


DRAFT = ("text", "language", "origin", "source", "source_ref", "license", "parallel", "attributes", "creature")
"""The columns of a draft as it is read: `origin` is the index of its source, `creature` that of its creature."""


@dataclass(slots=True)
class _Creatures:
    """The creatures that the records name, by key in the order of their first records."""

    by_key: dict[str, Creature] = field(default_factory=dict)
    number: dict[str, int] = field(default_factory=dict)
    split: dict[str, dict[str, str]] = field(default_factory=dict)
    # Those that two records name in different languages, the same by their key alone.
    same_by_key: list[Creature] = field(default_factory=list)


def read_drafts(
    sources: Sequence[tuple[SourceFacts, Iterable[Record]]],
    settings: DatasetSettings,
    engine: Engine,
    progress: Progress,
) -> Drafts:
    """Read, clean and drop: a draft of every record, each unusable one with its reason, and the creatures of all.

    Raises:
        InputError: Names of two languages would be one creature's by keys that are numbers of rows.
    """
    read = _Creatures()
    rows = engine.load(clean_texts, _read_batches(sources, read, progress))
    for language in ANSWER_LANGUAGES:
        names = [creature.names[language] for creature in read.same_by_key if language in creature.names]
        if names and len(names) >= 2 * len(set(names)):
            found = f"The sources share keys that number rows: {len(names):,} for {len(set(names)):,} names."
            raise InputError(found, "Give each creature one `key` in all sources, or rename those columns.")
    creatures = _merge_creatures(list(read.by_key.values()), [facts for facts, _ in sources])
    rows = engine.map(CheckDrafts(creatures, settings), rows, ["text", "language", "creature"])
    small = engine.collect(rows, ["creature", "reason"])
    reasons = list(map(sys.intern, small["reason"].to_pylist()))
    return Drafts(engine, rows, creatures, small["creature"].to_numpy(), reasons, read.split)


def _read_batches(
    sources: Sequence[tuple[SourceFacts, Iterable[Record]]], read: _Creatures, progress: Progress
) -> Iterator[pa.Table]:
    """A draft of each record, with the number of its creature; `read` gets the creatures."""
    import pyarrow as pa

    kinds = dict.fromkeys(DRAFT, pa.string()) | {"origin": pa.int32(), "creature": pa.int32()}
    count = 0
    drafts = chain.from_iterable(
        (_draft(record, origin, read) for record in records) for origin, (_, records) in enumerate(sources)
    )
    while count % BATCH_ROWS == 0:
        batch = list(islice(drafts, BATCH_ROWS))
        cells = zip(*batch, strict=True) if batch else repeat(())
        columns = [pa.array(column, kind) for column, kind in zip(cells, kinds.values(), strict=False)]
        yield pa.Table.from_arrays(columns, list(kinds))
        count += len(batch)
        progress("reading", count, None)
        if not batch:
            break
    progress("reading", count, count)


def _draft(record: Record, origin: int, read: _Creatures) -> tuple[str | int, ...]:
    """The cells of a draft by `DRAFT`, its text not yet cleaned."""
    key = _creature_of(read, record, origin).key
    attributes = json.dumps(dict(record.attributes), ensure_ascii=False, sort_keys=True) if record.attributes else "{}"
    number = read.number.setdefault(key, len(read.number))
    source = (record.source, record.source_ref, record.license, record.parallel)
    return record.description, record.language, origin, *source, attributes, number


def _merge_creatures(creatures: Sequence[Creature], sources: Sequence[SourceFacts]) -> list[Creature]:
    """What each creature is merged into; the sources' notes say how many."""
    stands_for = merge_creatures(creatures)
    for origin, facts in enumerate(sources):
        its = {creature.key: stands_for[creature.key].key for creature in creatures if creature.origin == origin}
        if merged := len(its) - len(set(its.values())):
            facts.notes.append(f"{facts.location}: {merged:,} keys are of a creature that another key names too")
    return [stands_for[creature.key] for creature in creatures]


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


def _creature_of(read: _Creatures, record: Record, origin: int) -> Creature:
    """The creature of a record's key; where that has another name, one of its own: some keys are numbers of rows."""
    key, creature = record.key, read.by_key.get(record.key)
    if creature is not None and all(creature.names.get(code) == name for code, name in record.names.items()):
        return creature
    names = _names(record, read.split)
    if creature is not None and (other := _other_name(creature, names)):
        key = f"{key}/{slug(other)}"
        creature = read.by_key.get(key)
    if creature is not None and names and creature.names.keys().isdisjoint(names):
        read.same_by_key.append(creature)
    if creature is None:
        family = key if record.family == record.key else record.family
        creature = read.by_key[key] = Creature(key, clean_text(family), {}, origin)
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
    if control_token(text) or control_token(answer):
        return "control-token"
    if "\ufffd" in text:
        return "broken"
    return "" if fits_language(text, language) else "wrong-letters"


def clean_texts(drafts: pa.Table) -> pa.Table:
    """Drafts with their texts cleaned."""
    import pyarrow as pa

    text = pa.array(map(clean_text, drafts["text"].to_pylist()), pa.string())
    return drafts.set_column(DRAFT.index("text"), "text", text)


def mask_names(drafts: Drafts, settings: DatasetSettings, progress: Progress) -> None:
    """Mask names in every kept draft, then apply the limits on length."""
    words = _families_of_words(drafts, [drafts.engine.collect(drafts.rows, ["words"])])
    mask, total = MaskDrafts(drafts.creatures, settings, _ordinary_words(words)), len(drafts.reason)
    reads = ["text", "language", "creature", "reason"]
    drafts.rows = drafts.engine.map(mask, drafts.rows, reads, lambda done: progress("masking", done, total))
    drafts.reason = list(map(sys.intern, drafts.column("reason")))


@dataclass(frozen=True)
class _Names:
    """What finds names in texts is compiled where it is used: it is larger than what it is made of."""

    creatures: Sequence[Creature]
    settings: DatasetSettings
    ordinary: frozenset[str] = frozenset()

    @cached_property
    def masker(self) -> Masker:
        settings, names = self.settings, {creature.key: creature.names for creature in self.creatures}
        masks = {
            "en": Masks(settings.mask, settings.mask_of_others("en")),
            "ko": Masks(settings.korean_mask, settings.mask_of_others("ko")),
        }
        return Masker(names, masks, self.ordinary)


class CheckDrafts(_Names):
    """Says which drafts cannot be used, and which names texts about other creatures use in lower case."""

    def __call__(self, drafts: pa.Table) -> pa.Table:
        """The columns `reason` and `words`."""
        import pyarrow as pa

        languages = wanted_languages(self.settings)
        reasons: list[str] = []
        words: list[list[str]] = []
        columns = (drafts[name].to_pylist() for name in ("text", "language", "creature"))
        for text, language, number in zip(*columns, strict=True):
            creature = self.creatures[number]
            reasons.append(_unusable(text, language, languages, creature, self.settings))
            find = language == "en" and not reasons[-1]
            words.append(list(self.masker.lower_case_words(text, creature.key)) if find else [])
        return pa.table({"reason": pa.array(reasons, pa.string()), "words": pa.array(words, pa.list_(pa.string()))})


class MaskDrafts(_Names):
    """Masks names, applies the limits on length, and makes of each text what is compared with all others."""

    def __call__(self, drafts: pa.Table) -> pa.Table:
        """The columns `text`, `reason`, `near` (a word that is nearly a name), `digest` (equal for the same text and
        empty where it is dropped) and `id`."""
        import pyarrow as pa

        texts, reasons = drafts["text"].to_pylist(), drafts["reason"].to_pylist()
        near: list[str | None] = [None] * len(drafts)
        digests, ids = [b""] * len(drafts), [""] * len(drafts)
        columns = zip(texts, drafts["language"].to_pylist(), drafts["creature"].to_pylist(), strict=True)
        for place, (text, language, number) in enumerate(columns):
            if reasons[place]:
                continue
            creature = self.creatures[number]
            text = texts[place] = self.masker.mask(text, creature.key, language)
            names = _own_names(creature)
            if len(text) < self.settings.min_characters:
                reasons[place] = "too-short"
            elif len(text) > self.settings.max_characters:
                reasons[place] = "too-long"
            elif own_names_in(text, chain.from_iterable(parts.sure for parts in names)):
                reasons[place] = "unmaskable"
            else:
                hit = near_name(text, fold(text), chain.from_iterable(map(chain.from_iterable, names)))
                near[place] = hit[1] if hit else None
                digests[place] = text_digest(text)
                ids[place] = hashlib.sha256(f"{creature.key}\0{text}".encode()).hexdigest()[:16]
        made = {"text": texts, "reason": reasons, "near": pa.array(near, pa.string()), "digest": digests, "id": ids}
        return pa.table(made)


def drop_near_names(drafts: Drafts) -> None:
    """Drop texts with a word that is nearly their creature's name, unless it is an ordinary word."""
    near = {place: word for place, word in enumerate(drafts.column("near")) if word}
    if not near:
        return
    family = [creature.family for creature in drafts.creatures]
    hits = [(word, family[drafts.creature[place]]) for place, word in near.items()]
    find = FindWords(frozenset(word.lower() for word in near.values()), "text")
    used = _families_of_words(drafts, drafts.engine.stream(find, drafts.rows, ["text"]))
    for place, named in zip(near, gives_name_away(hits, used), strict=True):
        if named:
            drafts.reason[place] = "near-name"


def _families_of_words(drafts: Drafts, batches: Iterable[pa.Table]) -> Iterator[tuple[str, str]]:
    """Each word of each kept draft, and the family of its creature."""
    for word, place in words_by_place(batches):
        if not drafts.reason[place]:
            yield word, drafts.creatures[drafts.creature[place]].family


def _own_names(creature: Creature) -> list[Names]:
    return [names_in(creature.names[language]) for language in ANSWER_LANGUAGES if language in creature.names]


def _ordinary_words(used: Iterable[tuple[str, str]]) -> frozenset[str]:
    """Names that the descriptions of unrelated creatures use in lower case, from each use and its family."""
    users: dict[str, set[str]] = defaultdict(set)
    for word, family in used:
        if len(users[word]) < ORDINARY_FAMILIES:
            users[word].add(family)
    return frozenset(word for word, families in users.items() if len(families) >= ORDINARY_FAMILIES)


def drop_repeated(drafts: Drafts, settings: DatasetSettings) -> None:
    """Drop repeated texts of a creature, and all copies of a text that has different answers."""
    # Digests, since a million texts are a quarter of a gigabyte.
    seen: dict[tuple[str, bytes], str] = {}
    answers: dict[bytes, str | None] = {}
    of_creature = [creature.answer(settings.answer) for creature in drafts.creatures]
    digests, parallel = drafts.column("digest"), drafts.column("parallel")
    kept = []
    for place in drafts.kept():
        number, text = drafts.creature[place], digests[place]
        key = drafts.creatures[number].key
        if (key, text) in seen:
            drafts.reason[place] = "duplicate"
            if parallel[place]:
                drafts.same_parallel.append((seen[key, text], parallel[place]))
            continue
        seen[key, text] = parallel[place]
        kept.append(place)
        if answers.setdefault(text, of_creature[number]) != of_creature[number]:
            answers[text] = None
    for place in kept:
        if answers[digests[place]] is None:
            drafts.reason[place] = "ambiguous"
