"""Rows of a dataset folder in, counts and the dataset's README.md out.

Parquet is read batch by batch, and only distinct values become Python objects: a million rows take little memory.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit import cards
from toolkit.cards.dataset_facts import DatasetCounts, Lengths, SplitCounts, append_lengths
from toolkit.core.errors import InputError
from toolkit.core.layout import SPLITS, split_files
from toolkit.data.dataset import LocatedDataset, parquet_errors
from toolkit.data.splits import MIN_CLUSTERS
from toolkit.model.chat import REQUEST

if TYPE_CHECKING:
    import pyarrow as pa

COUNTED_COLUMNS = ["answer", "description", "creature", "family", "attributes", "language", "source", "license"]
BATCH_ROWS = 20_000
# What may stand in a figure, whose font has no Korean and reads `$` as a formula.
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .-]{0,19}")


def write_card(folder: Path, facts: Mapping[str, Any]) -> None:
    """Draw the figures and write `README.md` and `eval.yaml` of a dataset folder, from its files and the build's facts.

    Raises:
        InputError: A file is damaged, or no split has a row.
    """
    content = LocatedDataset(folder.name, None, folder).rows_hash()
    settings: Mapping[str, Any] = facts["settings"]
    request = settings.get("request") or (REQUEST if settings.get("request_variants", 1) == 1 else None)
    known = {**facts, "content": content, "min_clusters": MIN_CLUSTERS, "request": request}
    cards.render_dataset_card(folder, count_dataset(folder), known)


def count_dataset(folder: Path) -> DatasetCounts:
    """Count the rows of a dataset folder that `build_dataset` wrote.

    Raises:
        InputError: A file is damaged, or no split has a row.
    """
    counts = DatasetCounts()
    files = split_files(folder, folder.name)
    for split in SPLITS:
        for file in files.get(split, []):
            for table in _tables(file):
                _add(counts, split, table)
    if not counts.splits:
        raise InputError(f"{folder} has no rows.", "Build the dataset again.")
    return counts


def _tables(file: Path) -> Iterator[pa.Table]:
    """The counted columns of a file, some rows at a time."""
    import pyarrow as pa
    import pyarrow.parquet

    with parquet_errors(file), pyarrow.parquet.ParquetFile(file) as opened:
        for batch in opened.iter_batches(BATCH_ROWS, columns=COUNTED_COLUMNS):
            yield pa.Table.from_batches([batch])


def _add(counts: DatasetCounts, split: str, table: pa.Table) -> None:
    of_split = counts.splits.setdefault(split, SplitCounts())
    _add_lengths(of_split.lengths, table)
    for (creature, family), rows in _tally(table, "creature", "family"):
        of_split.creatures[creature] += rows
        of_split.families.add(family)
    for (source, language), rows in _tally(table, "source", "language"):
        counts.sources[source, language] += rows
        counts.languages[language] += rows
        counts.labels.setdefault("source", Counter())[source, split] += rows
    for (license,), rows in _tally(table, "license"):
        counts.licenses[license] += rows
    for (attributes,), rows in _tally(table, "attributes"):
        for kind, label in _labels(attributes):
            counts.labels.setdefault(kind, Counter())[label, split] += rows
    if split == "unseen":
        counts.held_out.update((creature, answer) for (creature, answer), _ in _tally(table, "creature", "answer"))


def _add_lengths(lengths: dict[str, Lengths], table: pa.Table) -> None:
    import pyarrow.compute as pc

    characters = pc.utf8_length(table["description"])
    for language in pc.unique(table["language"]).to_pylist():
        chosen = pc.filter(characters, pc.equal(table["language"], language))
        append_lengths(lengths, language, chosen.to_numpy().astype(np.int32))


def _tally(table: pa.Table, *names: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """Each distinct combination of the columns' values, and its rows."""
    grouped = table.group_by(list(names), use_threads=False).aggregate([([], "count_all")])
    keys = zip(*(grouped[name].to_pylist() for name in names), strict=True)
    return zip(keys, grouped["count_all"].to_pylist(), strict=True)


@lru_cache(maxsize=20_000)
def _labels(attributes: str) -> tuple[tuple[str, str], ...]:
    """(kind, label) of those of a row's attributes that a figure and a text can show."""
    known = json.loads(attributes)
    values = {name: known.get(name) for name in ("generation", "register")}
    values["type"] = next(iter(known.get("types") or ()), None)
    return tuple((kind, str(value)) for kind, value in values.items() if LABEL.fullmatch(str(value)) and value)
