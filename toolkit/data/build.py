"""Build a dataset folder from a recipe: records, drafts, splits, files, validation, card and manifest."""

from __future__ import annotations

import hashlib
import time
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from toolkit.core import Progress, ignore
from toolkit.core.answers import answer_keys
from toolkit.core.errors import InputError
from toolkit.core.folder import atomic_folder, write_json, write_manifest
from toolkit.core.layout import SPLITS, VALIDATION
from toolkit.core.recipe import DatasetSettings, Recipe, load_recipe
from toolkit.data.card import write_card
from toolkit.data.cleaning import (
    DROPPED,
    Draft,
    Drafts,
    drop_near_names,
    drop_repeated,
    mask_names,
    read_drafts,
)
from toolkit.data.dataset import Row, write_rejected, write_split
from toolkit.data.duplicates import cluster_texts, normal_text
from toolkit.data.sources import SourceFacts, read_records
from toolkit.data.splits import assign_splits, join_clusters
from toolkit.data.validation import validate
from toolkit.model.chat import naming_messages, request_variants
from toolkit.model.chat_template import with_answer


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What was built.

    Attributes:
        path: The dataset folder.
        rows: Rows of each split that has any.
        dropped: Records by reason (`DROPPED`), most frequent first.
        read: Records that the sources yielded.
        creatures: Creatures with at least one row.
        families: Families with at least one row.
        validation: What the validator found in it, as `validation.json` says it.
        notes: How the sources were read, such as an encoding that was detected or cells with names in two languages.
        seconds: Wall time.
    """

    path: Path
    rows: dict[str, int]
    dropped: dict[str, int]
    read: int
    creatures: int
    families: int
    validation: dict[str, Any]
    notes: tuple[str, ...]
    seconds: float


def build_dataset(out: str | Path, recipe: Recipe | str = "demo", *, progress: Progress = ignore) -> BuildResult:
    """Build a dataset folder: Parquet files by split, `rejected.parquet`, the validation, the card and the manifest.

    The same sources, settings and seed give the same bytes, but for the times in `manifest.json`.

    Args:
        out: Folder to write; replaced as a whole at the end.
        recipe: Its sources, dataset settings and seed are used; the seed decides who is held out.

    Raises:
        InputError: A source or `out` cannot be used, or nothing is left after dropping.
        EnvironmentLacks, HubError: A source cannot be fetched.
    """
    started = time.perf_counter()
    out, recipe = Path(out), load_recipe(recipe) if isinstance(recipe, str) else recipe
    settings = recipe.dataset
    with atomic_folder(out, "dataset") as folder:
        sources = read_records(settings)
        drafts = read_drafts(sources, settings, progress)
        mask_names(drafts, settings, progress)
        drop_near_names(drafts)
        drop_repeated(drafts, settings)
        rows, near = _rows_by_split(drafts, settings, recipe.seed, progress)
        _require_rows(rows, drafts, [facts for facts, _ in sources])
        for split, of_split in rows.items():
            write_split(folder, split, _conversations(of_split, settings))
        if dropped := [draft for draft in drafts.all if draft.reason]:
            write_rejected(folder, map(_rejected, dropped))
        facts = _facts(rows, near, drafts, recipe, [facts for facts, _ in sources])
        notes = (*(note for source in facts["sources"] for note in source["notes"]), *_split_names(drafts))
        # The validation needs the gigabyte that a million drafts take.
        del drafts, rows, of_split, dropped
        validation = validate(folder, near_duplicate=settings.near_duplicate, progress=progress).to_json()
        write_json(folder / VALIDATION, validation)
        write_card(folder, facts)
        seconds = time.perf_counter() - started
        write_manifest(folder, "dataset", {**facts, "seconds": round(seconds, 3)})
    return BuildResult(
        path=out,
        rows=facts["splits"],
        dropped={reason: entry["rows"] for reason, entry in facts["dropped"].items()},
        read=facts["read"],
        creatures=facts["creatures"],
        families=facts["families"],
        validation=validation,
        notes=notes,
        seconds=seconds,
    )


def _split_names(drafts: Drafts) -> Iterator[str]:
    for cell, names in list(drafts.split.items())[:1]:
        parts = " and ".join(f"{name} ({language})" for language, name in names.items())
        yield f"{len(drafts.split):,} names are in several languages at once, such as {cell}, read as {parts}."


def _require_rows(rows: Mapping[str, list[Draft]], drafts: Drafts, sources: Sequence[SourceFacts]) -> None:
    if "train" in rows:
        return
    counted = ", ".join(f"{count} {DROPPED[reason]}" for reason, count in _dropped(drafts).items())
    where = " and ".join(source.location for source in sources)
    raise InputError(
        f"None of the {len(drafts.all)} descriptions of {where} is left to train on"
        + (f": {counted}." if counted else ".")
        + "".join(f" {note}." for source in sources for note in source.notes),
        "Check the columns, `description_language`, `answer` and the limits on length.",
    )


def _dropped(drafts: Drafts) -> dict[str, int]:
    return dict(Counter(draft.reason for draft in drafts.all if draft.reason).most_common())


def _rows_by_split(
    drafts: Drafts, settings: DatasetSettings, seed: int, progress: Progress
) -> tuple[dict[str, list[Draft]], dict[str, int]]:
    """Kept drafts of each split that has any, sorted by id, and how many are near-duplicates, in how many clusters."""
    kept = drafts.kept()
    for draft in kept:
        draft.id = hashlib.sha256(f"{draft.creature.key}\0{draft.text}".encode()).hexdigest()[:16]
    kept.sort(key=lambda draft: draft.id)
    progress("comparing", 0, len(kept))
    near = cluster_texts([draft.text for draft in kept], settings.near_duplicate)
    clusters = join_clusters(near, [draft.parallel for draft in kept], drafts.same_parallel)
    progress("comparing", len(kept), len(kept))
    keys_of = cache(answer_keys)
    assigned = assign_splits(
        [draft.creature.key for draft in kept],
        [draft.creature.family for draft in kept],
        [kept[cluster].id for cluster in clusters],
        [keys_of(draft.creature.answer(settings.answer) or "") for draft in kept],
        settings,
        seed,
    )
    rows: dict[str, list[Draft]] = {split: [] for split in SPLITS}
    for draft, split in zip(kept, assigned, strict=True):
        rows[split].append(draft)
    sizes = [size for size in Counter(near).values() if size > 1]
    return {split: its for split, its in rows.items() if its}, {"rows": sum(sizes), "clusters": len(sizes)}


def _conversations(drafts: list[Draft], settings: DatasetSettings) -> Iterator[Row]:
    """Drafts as rows of a split, each the conversation that the settings ask for."""
    requests = [settings.request] if settings.request else request_variants(settings.request_variants)
    for draft in drafts:
        creature = draft.creature
        answer = creature.answer(settings.answer) or ""  # Drafts without an answer were dropped.
        # The id is a hash of the row, so a row has the same request whatever else is in the dataset.
        question = naming_messages(draft.text, requests[int(draft.id, 16) % len(requests)], settings.system)
        yield {
            "id": draft.id,
            "messages": with_answer(question, answer),
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


def _rejected(draft: Draft) -> Row:
    return {
        "reason": draft.reason,
        "creature": draft.creature.key,
        "description": draft.text,
        "language": draft.language,
        "source": draft.source,
        "source_ref": draft.source_ref,
    }


def _facts(
    rows: Mapping[str, list[Draft]],
    near_duplicates: Mapping[str, int],
    drafts: Drafts,
    recipe: Recipe,
    sources: Sequence[SourceFacts],
) -> dict[str, Any]:
    """What the manifest and the card say, without times and paths of this machine."""
    kept = drafts.kept()
    licenses = sorted({draft.license for draft in kept})
    from_source = Counter(draft.origin for draft in kept)
    return {
        "recipe": recipe.name,
        "settings": _public_settings(recipe.dataset, sources),
        "seed": recipe.seed,
        "sources": [{**asdict(source), "rows": from_source[origin]} for origin, source in enumerate(sources)],
        "license": licenses[0] if len(licenses) == 1 else "other",
        "pokemon": _about_pokemon(sources, kept),
        "read": len(drafts.all),
        "dropped": {reason: {"rows": count, "what": DROPPED[reason]} for reason, count in _dropped(drafts).items()},
        "near_duplicates": dict(near_duplicates),
        "splits": {split: len(its) for split, its in rows.items()},
        "creatures": len({draft.creature.key for draft in kept}),
        "families": len({draft.creature.family for draft in kept}),
    }


def _public_settings(settings: DatasetSettings, sources: Sequence[SourceFacts]) -> dict[str, Any]:
    """The settings with locations as they may be published."""
    public = settings.model_dump(mode="json")
    public |= {"other_mask": settings.mask_of_others("en"), "korean_other_mask": settings.mask_of_others("ko")}
    for source, facts in zip(public["sources"], sources, strict=True):
        source["location"] = facts.location if source["location"] else None
    return public


def _about_pokemon(sources: Sequence[SourceFacts], kept: list[Draft]) -> bool:
    """Whether the card must name Pokémon's trademarks: by the creatures' keys, or the name of a source."""
    plain = (unicodedata.normalize("NFKD", source.location).encode("ascii", "ignore").decode() for source in sources)
    return any("pokemon" in normal_text(location) for location in plain) or any(
        draft.creature.key.startswith("pokemon/") for draft in kept
    )
