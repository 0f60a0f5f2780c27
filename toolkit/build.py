"""Records to a dataset folder: clean, mask, drop and count, split, write. Knows nothing of where records come from."""

from __future__ import annotations

import hashlib
import json
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.chat import naming_messages
from toolkit.dataset_card import render_dataset_card
from toolkit.duplicates import cluster_texts, normal_text
from toolkit.errors import InputError
from toolkit.folder import atomic_folder, write_manifest
from toolkit.grammar import Masks
from toolkit.masking import Masker, own_names_in
from toolkit.recipe import DatasetSettings
from toolkit.record import Record
from toolkit.rows import SPLITS
from toolkit.sources import SourceFacts, read_records
from toolkit.sources.facts import wanted_languages
from toolkit.splits import Shares, deal_splits
from toolkit.text import CONTROL_TOKEN, clean_text, fits_language

Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, how many are done, and of how many (None: not known)."""

REJECTED = "rejected.parquet"
ROW_GROUP = 10_000
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


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What was built.

    Attributes:
        path: The dataset folder.
        rows: Rows of each split; a split without rows is not there.
        dropped: Records by reason (`DROPPED`), most frequent first.
        read: Records that the source yielded.
        creatures: Creatures with at least one row.
        families: Families with at least one row.
        seconds: Wall time.
    """

    path: Path
    rows: dict[str, int]
    dropped: dict[str, int]
    read: int
    creatures: int
    families: int
    seconds: float


@dataclass(slots=True)
class _Creature:
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
class _Draft:
    """A record on its way: `reason` says why it was dropped, empty while it is kept."""

    creature: _Creature
    text: str
    language: str
    source: str
    source_ref: str
    license: str
    attributes: str
    reason: str = ""
    id: str = ""


@dataclass(slots=True)
class _Work:
    """All drafts and creatures of one build."""

    drafts: list[_Draft] = field(default_factory=list)
    creatures: dict[str, _Creature] = field(default_factory=dict)

    def kept(self) -> list[_Draft]:
        return [draft for draft in self.drafts if not draft.reason]


def build_dataset(
    out: Path, settings: DatasetSettings, seed: int, recipe_name: str, progress: Progress | None = None
) -> BuildResult:
    """Build a dataset folder: Parquet files by split, `rejected.parquet`, the card and the manifest.

    The same source, settings and seed give the same bytes, but for the times in `manifest.json`.

    Args:
        out: Folder to write; replaced as a whole at the end.
        seed: Decides who is held out.
        recipe_name: For the manifest.

    Raises:
        InputError: The source or `out` can not be used, or nothing is left after dropping.
        EnvironmentLacks, HubError: The source can not be fetched.
    """
    started = time.perf_counter()
    report = progress or (lambda *_: None)
    with atomic_folder(out) as folder:
        records, source = read_records(settings)
        work = _read(records, settings, report)
        _mask(work, settings, report)
        _drop_repeated(work, settings)
        rows = _rows_by_split(work, settings, seed, report)
        dropped = dict(Counter(draft.reason for draft in work.drafts if draft.reason).most_common())
        if "train" not in rows:
            counted = ", ".join(f"{count} {DROPPED[reason]}" for reason, count in dropped.items())
            raise InputError(
                f"None of the {len(work.drafts)} descriptions of {source.location} is left to train on"
                + (f": {counted}." if counted else "."),
                "Check the columns, --description-language, --answer and the length limits.",
            )
        result = BuildResult(
            path=out,
            rows={split: len(drafts) for split, drafts in rows.items()},
            dropped=dropped,
            read=len(work.drafts),
            creatures=len({draft.creature.key for drafts in rows.values() for draft in drafts}),
            families=len({draft.creature.family for drafts in rows.values() for draft in drafts}),
            seconds=0.0,
        )
        for split, drafts in rows.items():
            report("writing", 0, None)
            _write_split(folder, split, drafts, settings.answer)
        _write_rejected(folder / REJECTED, [draft for draft in work.drafts if draft.reason])
        facts = _facts(result, settings, source, seed, recipe_name, work)
        render_dataset_card(folder, facts)
        seconds = time.perf_counter() - started
        write_manifest(folder, "dataset", {**facts, "seconds": round(seconds, 3)})
    return BuildResult(**{**{name: getattr(result, name) for name in result.__slots__}, "seconds": seconds})


def _read(records: Iterable[Record], settings: DatasetSettings, report: Progress) -> _Work:
    work = _Work()
    languages = wanted_languages(settings)
    for number, record in enumerate(records, 1):
        creature = _known(work, record)
        text = clean_text(record.description)
        work.drafts.append(
            _Draft(
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


def _known(work: _Work, record: Record) -> _Creature:
    creature = work.creatures.get(record.key)
    if creature is None:
        names = {language: cleaned for language, name in record.names.items() if (cleaned := clean_text(name))}
        creature = work.creatures[record.key] = _Creature(record.key, clean_text(record.family), names)
    elif not record.names.keys() <= creature.names.keys():
        for language, name in record.names.items():
            if language not in creature.names and (cleaned := clean_text(name)):
                creature.names[language] = cleaned
    return creature


def _unusable(
    text: str, language: str, languages: Sequence[str], creature: _Creature, settings: DatasetSettings
) -> str:
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


def _mask(work: _Work, settings: DatasetSettings, report: Progress) -> None:
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


def _ordinary_words(drafts: list[_Draft], masker: Masker) -> set[str]:
    """Names that the descriptions of unrelated creatures use in lower case."""
    users: dict[str, set[str]] = defaultdict(set)
    for draft in drafts:
        if draft.language == "en":
            for word in masker.lower_case_words(draft.text, draft.creature.key):
                if len(users[word]) < ORDINARY_FAMILIES:
                    users[word].add(draft.creature.family)
    return {word for word, families in users.items() if len(families) >= ORDINARY_FAMILIES}


def _drop_repeated(work: _Work, settings: DatasetSettings) -> None:
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


def _rows_by_split(work: _Work, settings: DatasetSettings, seed: int, report: Progress) -> dict[str, list[_Draft]]:
    """Kept drafts of each split that has any, sorted by id."""
    kept = work.kept()
    for draft in kept:
        draft.id = hashlib.sha256(f"{draft.creature.key}\0{draft.text}".encode()).hexdigest()[:16]
    kept.sort(key=lambda draft: draft.id)
    report("comparing", 0, len(kept))
    clusters = cluster_texts([draft.text for draft in kept], settings.near_duplicate)
    report("comparing", len(kept), len(kept))
    dealt = deal_splits(
        [draft.creature.key for draft in kept],
        [draft.creature.family for draft in kept],
        [kept[cluster].id for cluster in clusters],
        Shares(settings.validation_size, settings.test_size, settings.unseen_size),
        seed,
    )
    rows: dict[str, list[_Draft]] = {split: [] for split in SPLITS}
    for draft, split in zip(kept, dealt, strict=True):
        rows[split].append(draft)
    return {split: drafts for split, drafts in rows.items() if drafts}


def _write_split(folder: Path, split: str, drafts: list[_Draft], form: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.string()
    message = pa.struct([("role", text), ("content", text)])
    columns = ("answer", "description", "creature", "family", "name_en", "name_ko", "language", "source", "source_ref")
    schema = pa.schema(
        [("id", text), ("messages", pa.list_(message)), *((name, text) for name in (*columns, "license", "attributes"))]
    )
    path = folder / "data" / f"{split}-00000-of-00001.parquet"
    path.parent.mkdir(exist_ok=True)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in _batches(drafts):
            writer.write_table(pa.Table.from_pylist([_row(draft, form) for draft in batch], schema))


def _row(draft: _Draft, form: str) -> dict[str, Any]:
    creature = draft.creature
    answer = creature.answer(form)
    return {
        "id": draft.id,
        "messages": [*naming_messages(draft.text), {"role": "assistant", "content": answer}],
        "answer": answer,
        "description": draft.text,
        "creature": creature.key,
        "family": creature.family,
        "name_en": creature.names.get("en"),
        "name_ko": creature.names.get("ko"),
        "language": draft.language,
        "source": draft.source,
        "source_ref": draft.source_ref,
        "license": draft.license,
        "attributes": draft.attributes,
    }


def _write_rejected(path: Path, drafts: list[_Draft]) -> None:
    """What was dropped, with its reason; no file when nothing was."""
    if not drafts:
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ("reason", "creature", "description", "language", "source", "source_ref")
    schema = pa.schema([(name, pa.string()) for name in names])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in _batches(drafts):
            rows = [
                (draft.reason, draft.creature.key, draft.text, draft.language, draft.source, draft.source_ref)
                for draft in batch
            ]
            writer.write_table(pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema))


def _batches(drafts: list[_Draft]) -> Iterator[list[_Draft]]:
    for start in range(0, len(drafts), ROW_GROUP):
        yield drafts[start : start + ROW_GROUP]


def _facts(
    result: BuildResult, settings: DatasetSettings, source: SourceFacts, seed: int, recipe_name: str, work: _Work
) -> dict[str, Any]:
    """What the manifest and the card say; no time and no path of this machine."""
    kept = work.kept()
    licenses = sorted({draft.license for draft in kept})
    return {
        "recipe": recipe_name,
        "settings": {**settings.model_dump(mode="json"), "location": source.location if settings.location else None},
        "seed": seed,
        "sources": [{name: getattr(source, name) for name in source.__slots__}],
        "license": licenses[0] if len(licenses) == 1 else "other",
        "pokemon": _about_pokemon(source, kept),
        "read": result.read,
        "dropped": {reason: {"rows": count, "what": DROPPED[reason]} for reason, count in result.dropped.items()},
        "splits": result.rows,
        "creatures": result.creatures,
        "families": result.families,
    }


def _about_pokemon(source: SourceFacts, kept: list[_Draft]) -> bool:
    """Whether the names are trademarks that the card must tell of: by their keys, or by what the source is called."""
    named = normal_text(unicodedata.normalize("NFKD", source.location).encode("ascii", "ignore").decode())
    return "pokemon" in named or any(draft.creature.key.startswith("pokemon/") for draft in kept)
