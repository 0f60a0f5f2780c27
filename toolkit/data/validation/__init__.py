"""The checks of a dataset: `validate` takes a folder or a Hub id and returns a `Report` of findings by stable code.

Takes any dataset with a column `messages`: one of this toolkit's, or one with other columns or none. `files` finds the
Parquet files, `rows` reads and checks rows one by one, `comparisons` compares them with each other, `findings` is the
report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.core import Progress, ignore
from toolkit.core.answers import LONGEST_ANSWER_NAME
from toolkit.core.errors import ToolkitError
from toolkit.core.folder import unwritable, write_json
from toolkit.core.layout import VALIDATION
from toolkit.core.recipe import DatasetSettings
from toolkit.core.text import printable
from toolkit.core.workers import EngineName
from toolkit.data.dataset import locate_dataset
from toolkit.data.duplicates import Clusters
from toolkit.data.ray_engine import open_engine
from toolkit.data.validation.comparisons import Compared, compare_rows
from toolkit.data.validation.files import CHECKED_COLUMNS, Shard, open_shards, read_own_manifest
from toolkit.data.validation.findings import CODES, Findings, Place, Report, Skipped, excerpt
from toolkit.data.validation.rows import CheckRows, Turn, check_tokens, checked_rows, learn_shared, read_batches
from toolkit.model.base import locate_base_to_load
from toolkit.model.loading import load_tokenizer

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Report", "validate", "write_report"]


def validate(
    dataset: str | Path,
    *,
    revision: str | None = None,
    strict: bool = False,
    base: str | None = None,
    max_length: int | None = None,
    near_duplicate: float | None = None,
    clusters: Clusters | None = None,
    engine: EngineName = "local",
    progress: Progress = ignore,
) -> Report:
    """Check every row of a dataset, and write nothing. The same rows give the same report.

    Args:
        dataset: Hub id, or a folder with Parquet files in any of the layouts that the Hub recognises.
        revision: Commit, branch or tag on the Hub.
        strict: Whether warnings count as errors in `Report.ok`.
        base: Hub id or folder of a base, to check that its chat template renders every row as training needs it.
        max_length: With a base, the most tokens of a conversation.
        near_duplicate: Similarity from which two texts are nearly the same. Default: what the dataset was built with by
            its manifest, else the default of `pkt build-dataset`.
        clusters: The near-duplicates among the descriptions, where a build has just found them.
        engine: Where the rows are kept and worked on, as in `build_dataset`.

    Raises:
        InputError: No such folder or id, no Parquet file in it, or no tokenizer of such a base.
        HubError, EnvironmentLacks: The Hub refuses a download or cannot be reached, or there is no cluster.
    """
    tokenizer = load_tokenizer(locate_base_to_load(base, weights=False).path) if base else None
    tokens = partial(check_tokens, tokenizer, max_length) if tokenizer else None
    located, found = locate_dataset(str(dataset), revision), Findings()
    folder, files = located.path, located.files()
    manifest = read_own_manifest(folder, found)
    shards = open_shards(files, folder, CHECKED_COLUMNS if manifest else (), found)
    columns = set.intersection(*(set(shard.columns) for shard in shards)) if shards else set()
    total = sum(shard.rows for shard in shards)
    check = CheckRows(learn_shared(_sample(shards)), "creature" in columns, tokens)
    with open_engine(engine) as keeper:
        read = keeper.load(check, _batches(shards, found), lambda done: progress("checking rows", done, total))
        rows = Compared(keeper, read)
        counts = dict.fromkeys((shard.split for shard in shards), 0)
        _add_faults(keeper.collect(read, ["split", "row", "id", "faults"]), counts, found)
        for split in [split for split, count in counts.items() if not count]:
            found.add("schema.empty-split", split)
        if counts and "train" not in counts:
            found.add("schema.no-train", next(iter(counts)))
        progress("comparing", 0, None)
        settings = manifest.get("settings", {})
        near_duplicate = near_duplicate or settings.get("near_duplicate") or DatasetSettings().near_duplicate
        skipped = compare_rows(rows, columns, settings.get("answer"), near_duplicate, clusters, found)
        skipped |= _not_checked(columns, int(rows.frame.unnamed.sum()), base, max_length)
        progress("comparing", 1, 1)
    ordered = [Skipped(code, skipped[code]) for code in CODES if code in skipped]
    return Report(counts, found.sorted(), ordered, strict)


def write_report(report: Report, dataset: str | Path, output: Path | None = None) -> ToolkitError | None:
    """Write the report to `output`, or as `validation.json` into a dataset that is a folder.

    Returns:
        Why `validation.json` could not be written, which is no fault of the dataset; else None.

    Raises:
        InputError, EnvironmentLacks: `output` cannot be written.
    """
    path = output or Path(dataset) / VALIDATION
    try:
        if output is not None or Path(dataset).is_dir():
            write_json(path, report.to_json())
    except OSError as error:
        if output is not None:
            raise unwritable(path, error) from error
        return unwritable(path, error)
    return None


def _sample(shards: Sequence[Shard]) -> Iterator[Sequence[Turn]]:
    """The turns of the first rows of each split."""
    for shard in {shard.split: shard for shard in reversed(shards)}.values():
        # Damage is found when all rows are read.
        first = next(read_batches(shard, 0, Findings()), None)
        yield from (row.turns for row in (checked_rows(first) if first else ()) if row.turns)


def _batches(shards: Sequence[Shard], found: Findings) -> Iterator[pa.Table]:
    """The rows of all files, numbered within their split, after a batch without rows: there may be none."""
    import pyarrow as pa

    messages = pa.array([], pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])))
    yield pa.table({"split": pa.array([], pa.string()), "row": pa.array([], pa.int64()), "messages": messages})
    first = Counter[str]()
    for shard in shards:
        yield from read_batches(shard, first[shard.split], found)
        first[shard.split] += shard.rows


def _add_faults(rows: pa.Table, counts: dict[str, int], found: Findings) -> None:
    """Count the rows of each split, and note the faults of each row."""
    import pyarrow.compute as compute

    for count in rows["split"].value_counts().to_pylist():
        counts[count["values"]] += count["counts"]
    for row in rows.filter(compute.greater(compute.list_value_length(rows["faults"]), 0)).to_pylist():
        place = printable(row["split"]), row["row"], None if row["id"] is None else excerpt(row["id"])
        for fault in row["faults"]:
            found.add_all(fault["code"], 1, [Place(*place, fault["excerpt"])])


def _not_checked(columns: Collection[str], unnamed: int, base: str | None, max_length: int | None) -> dict[str, str]:
    """Checks of rows that this dataset does not allow, and why."""
    needed = {"schema.id": ("id",), "schema.answer": ("answer",), "lang.description": ("description", "language")}
    reasons = {}
    for code, names in needed.items():
        if missing := [f"`{name}`" for name in names if name not in columns]:
            reasons[code] = f"no column {' and '.join(missing)}"
    if unnamed:
        reason = f"{unnamed:,} rows without a name: no `name_...`, no answer of up to {LONGEST_ANSWER_NAME} letters"
        reasons |= {"leak.own-name": reason, "leak.near-name": reason}
    if base is None:
        reasons |= {"tokens.length": "no tokenizer given", "tokens.contract": "no tokenizer given"}
    elif max_length is None:
        reasons["tokens.length"] = "no maximum length given"
    return reasons
