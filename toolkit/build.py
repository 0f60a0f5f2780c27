"""Records to a dataset folder: drafts, splits, files, card, manifest. Knows nothing of where records come from."""

from __future__ import annotations

import hashlib
import time
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.dataset_card import render_dataset_card
from toolkit.dataset_files import write_rejected, write_split
from toolkit.drafts import DROPPED, Draft, Progress, Work, drop_repeated, mask_names, read_drafts
from toolkit.duplicates import cluster_texts, normal_text
from toolkit.errors import InputError
from toolkit.folder import atomic_folder, write_manifest
from toolkit.recipe import DatasetSettings
from toolkit.rows import SPLITS
from toolkit.sources import SourceFacts, read_records
from toolkit.splits import Shares, deal_splits


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
    with atomic_folder(out, "dataset") as folder:
        records, source = read_records(settings)
        work = read_drafts(records, settings, report)
        mask_names(work, settings, report)
        drop_repeated(work, settings)
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
            write_split(folder, split, drafts, settings.answer)
        write_rejected(folder, [draft for draft in work.drafts if draft.reason])
        facts = _facts(result, settings, source, seed, recipe_name, work)
        render_dataset_card(folder, facts)
        seconds = time.perf_counter() - started
        write_manifest(folder, "dataset", {**facts, "seconds": round(seconds, 3)})
    return BuildResult(**{**{name: getattr(result, name) for name in result.__slots__}, "seconds": seconds})


def _rows_by_split(work: Work, settings: DatasetSettings, seed: int, report: Progress) -> dict[str, list[Draft]]:
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
    rows: dict[str, list[Draft]] = {split: [] for split in SPLITS}
    for draft, split in zip(kept, dealt, strict=True):
        rows[split].append(draft)
    return {split: drafts for split, drafts in rows.items() if drafts}


def _facts(
    result: BuildResult, settings: DatasetSettings, source: SourceFacts, seed: int, recipe_name: str, work: Work
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


def _about_pokemon(source: SourceFacts, kept: list[Draft]) -> bool:
    """Whether the names are trademarks that the card must tell of: by their keys, or by what the source is called."""
    named = normal_text(unicodedata.normalize("NFKD", source.location).encode("ascii", "ignore").decode())
    return "pokemon" in named or any(draft.creature.key.startswith("pokemon/") for draft in kept)
