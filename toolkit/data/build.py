"""Build a dataset folder from a recipe: records, drafts, splits, files, validation, card and manifest."""

from __future__ import annotations

import time
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.core import Progress, ignore
from toolkit.core.answers import answer_keys
from toolkit.core.errors import InputError
from toolkit.core.folder import atomic_folder, read_manifest, write_json, write_manifest
from toolkit.core.layout import MANIFEST, SPLITS, VALIDATION
from toolkit.core.recipe import DatasetSettings, Recipe, load_recipe
from toolkit.core.workers import EngineName
from toolkit.data.batches import release_memory, run_batches
from toolkit.data.card import write_card
from toolkit.data.cleaning import (
    DROPPED,
    Creature,
    Drafts,
    drop_near_names,
    drop_repeated,
    mask_names,
    read_drafts,
)
from toolkit.data.dataset import ROW_GROUP, dataset_table, write_rejected, write_split
from toolkit.data.duplicates import Clusters, Places, cluster_texts, normal_text, numbered
from toolkit.data.ray_engine import open_engine
from toolkit.data.sources import SourceFacts, read_records
from toolkit.data.splits import assign_splits, join_clusters
from toolkit.data.validation import validate
from toolkit.model.chat import naming_messages, request_variants
from toolkit.model.chat_template import with_answer

if TYPE_CHECKING:
    import pyarrow as pa


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


def build_dataset(
    out: str | Path, recipe: Recipe | str = "demo", *, engine: EngineName = "local", progress: Progress = ignore
) -> BuildResult:
    """Build a dataset folder: Parquet files by split, `rejected.parquet`, the validation, the card and the manifest.

    The same sources, settings and seed give the same bytes, but for the times in `manifest.json`.

    Args:
        out: Folder to write; replaced as a whole at the end.
        recipe: Its sources, dataset settings and seed are used; the seed decides who is held out.
        engine: Where the rows are kept and worked on: in memory, by as many processes as is worth while, or on a Ray
            cluster (`ray_cluster`).

    Raises:
        InputError: A source or `out` cannot be used, or nothing is left after dropping.
        EnvironmentLacks, HubError: A source cannot be fetched, or there is no cluster.
    """
    started = time.perf_counter()
    out, recipe = Path(out), load_recipe(recipe) if isinstance(recipe, str) else recipe
    settings = recipe.dataset
    with atomic_folder(out, "dataset") as folder, open_engine(engine) as keeper:
        sources = read_records(settings)
        drafts = read_drafts(sources, settings, keeper, progress)
        mask_names(drafts, settings, progress)
        drop_near_names(drafts)
        drop_repeated(drafts, settings)
        rows, clusters = _rows_by_split(drafts, settings, recipe.seed, progress)
        _require_rows(rows, drafts, [facts for facts, _ in sources])
        convert = Conversations(drafts.creatures, settings)
        for split, places in rows.items():
            write_split(folder, split, run_batches(convert, keeper.take(drafts.rows, KEPT, places, ROW_GROUP)))
        if dropped := [place for place, reason in enumerate(drafts.reason) if reason]:
            write_rejected(folder, _rejected(drafts, np.asarray(dropped)))
        facts = _facts(rows, clusters, drafts, recipe, [facts for facts, _ in sources])
        notes = (*(note for source in facts["sources"] for note in source["notes"]), *_split_names(drafts))
        if (out / MANIFEST).exists():
            replaced, made = (_locations(each) for each in (read_manifest(out, "dataset"), facts))
            notes += () if replaced == made else (f"It takes the place of the dataset of {replaced}.",)
        # The validation needs the memory that a million drafts take.
        del drafts, rows, places, dropped, convert
        release_memory()
        near_duplicate = settings.near_duplicate
        report = validate(folder, near_duplicate=near_duplicate, clusters=clusters, engine=engine, progress=progress)
        validation = report.to_json()
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


def _require_rows(rows: Mapping[str, Places], drafts: Drafts, sources: Sequence[SourceFacts]) -> None:
    if "train" in rows:
        return
    counted = ", ".join(f"{count} {DROPPED[reason]}" for reason, count in _dropped(drafts).items())
    where = " and ".join(source.location for source in sources)
    raise InputError(
        f"None of the {len(drafts.reason)} descriptions of {where} is left to train on"
        + (f": {counted}." if counted else ".")
        + "".join(f" {note}." for source in sources for note in source.notes),
        "Check the columns, `description_language`, `answer` and the limits on length.",
    )


def _dropped(drafts: Drafts) -> dict[str, int]:
    return dict(Counter(filter(None, drafts.reason)).most_common())


def _rows_by_split(
    drafts: Drafts, settings: DatasetSettings, seed: int, progress: Progress
) -> tuple[dict[str, Places], Clusters]:
    """The places of the drafts of each split that has any, sorted by id, and the clusters of all."""
    kept = np.asarray(drafts.kept(), dtype=np.intp)
    progress("comparing", 0, len(kept))
    ids, digests = (np.asarray(drafts.column(name), dtype=bytes) for name in ("id", "digest"))
    kept = kept[np.argsort(ids[kept], kind="stable")]
    compared = np.zeros_like(digests)
    compared[kept] = digests[kept]
    near = numbered(cluster_texts(drafts.engine, drafts.rows, "text", compared, settings.near_duplicate)[kept])
    parallel = drafts.column("parallel")
    clusters = join_clusters(near.tolist(), [parallel[place] for place in kept], drafts.same_parallel)
    progress("comparing", len(kept), len(kept))
    creatures = [drafts.creatures[number] for number in drafts.creature[kept].tolist()]
    keys = [answer_keys(creature.answer(settings.answer) or "") for creature in drafts.creatures]
    assigned = assign_splits(
        [creature.key for creature in creatures],
        [creature.family for creature in creatures],
        ids[kept[clusters]].astype(str).tolist(),
        [keys[number] for number in drafts.creature[kept].tolist()],
        settings,
        seed,
    )
    split_of = np.asarray(assigned)
    rows = {split: kept[split_of == split] for split in SPLITS}
    return {split: its for split, its in rows.items() if len(its)}, Clusters(digests[kept], near)


KEPT = ("id", "text", "creature", "language", "source", "source_ref", "license", "attributes")


@dataclass(frozen=True, slots=True)
class Conversations:
    """Makes rows of drafts, each the conversation that the settings ask for."""

    creatures: Sequence[Creature]
    settings: DatasetSettings

    def __call__(self, drafts: pa.Table) -> pa.Table:
        """All of `COLUMNS`, of the columns `KEPT`."""
        settings = self.settings
        requests = [settings.request] if settings.request else request_variants(settings.request_variants)
        creatures = [self.creatures[number] for number in drafts["creature"].to_pylist()]
        ids, texts = drafts["id"].to_pylist(), drafts["text"].to_pylist()
        answers = [creature.answer(settings.answer) or "" for creature in creatures]  # Those without were dropped.
        # The id is a hash of the row, so a row has the same request whatever else is in the dataset.
        asked = [requests[int(id, 16) % len(requests)] for id in ids]
        return dataset_table(
            {name: drafts[name] for name in ("id", "language", "source", "source_ref", "license", "attributes")}
            | {
                "messages": [
                    with_answer(naming_messages(text, request, settings.system), answer)
                    for text, request, answer in zip(texts, asked, answers, strict=True)
                ],
                "answer": answers,
                "description": drafts["text"],
                "creature": [creature.key for creature in creatures],
                "family": [creature.family for creature in creatures],
                "name_en": [creature.names.get("en") for creature in creatures],
                "name_ko": [creature.names.get("ko") for creature in creatures],
            }
        )


def _rejected(drafts: Drafts, places: Places) -> Iterator[dict[str, Sequence[Any]]]:
    """The dropped drafts at these places by `REJECTED_COLUMNS`."""
    columns = ("text", "creature", "language", "source", "source_ref")
    for start, batch in enumerate(drafts.engine.take(drafts.rows, columns, places, ROW_GROUP)):
        reasons = [drafts.reason[place] for place in places[start * ROW_GROUP :][: len(batch)]]
        creatures = [drafts.creatures[number].key for number in batch["creature"].to_pylist()]
        own = {name: batch[name] for name in ("language", "source", "source_ref")}
        yield own | {"reason": reasons, "creature": creatures, "description": batch["text"]}


def _facts(
    rows: Mapping[str, Places],
    clusters: Clusters,
    drafts: Drafts,
    recipe: Recipe,
    sources: Sequence[SourceFacts],
) -> dict[str, Any]:
    """What the manifest and the card say, without times and paths of this machine."""
    kept = drafts.kept()
    sizes = [size for size in np.unique(clusters.number, return_counts=True)[1].tolist() if size > 1]
    license, origin = drafts.column("license"), drafts.column("origin")
    licenses = sorted({license[place] for place in kept})
    from_source = Counter(origin[place] for place in kept)
    creatures = {(creature := drafts.creatures[number]).key: creature for number in np.unique(drafts.creature[kept])}
    return {
        "recipe": recipe.name,
        "settings": _public_settings(recipe.dataset, sources),
        "seed": recipe.seed,
        "sources": [{**asdict(source), "rows": from_source[origin]} for origin, source in enumerate(sources)],
        "license": licenses[0] if len(licenses) == 1 else "other",
        "pokemon": _about_pokemon(sources, creatures),
        "read": len(drafts.reason),
        "dropped": {reason: {"rows": count, "what": DROPPED[reason]} for reason, count in _dropped(drafts).items()},
        "near_duplicates": {"rows": sum(sizes), "clusters": len(sizes)},
        "splits": {split: len(its) for split, its in rows.items()},
        "creatures": len(creatures),
        "families": len({creature.family for creature in creatures.values()}),
    }


def _locations(manifest: Mapping[str, Any]) -> str:
    return ", ".join(source["location"] for source in manifest["sources"])


def _public_settings(settings: DatasetSettings, sources: Sequence[SourceFacts]) -> dict[str, Any]:
    """The settings with locations as they may be published."""
    public = settings.model_dump(mode="json")
    public |= {"other_mask": settings.mask_of_others("en"), "korean_other_mask": settings.mask_of_others("ko")}
    for source, facts in zip(public["sources"], sources, strict=True):
        source["location"] = facts.location if source["location"] else None
    return public


def _about_pokemon(sources: Sequence[SourceFacts], keys: Iterable[str]) -> bool:
    """Whether the card must name Pokémon's trademarks: by the creatures' keys, or the name of a source."""
    plain = (unicodedata.normalize("NFKD", source.location).encode("ascii", "ignore").decode() for source in sources)
    return any("pokemon" in normal_text(location) for location in plain) or any(
        key.startswith("pokemon/") for key in keys
    )
