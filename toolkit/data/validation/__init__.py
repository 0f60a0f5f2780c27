"""The checks of a dataset: `validate` takes a folder or a Hub id and returns a `Report` of findings by stable code.

Takes any dataset with a column `messages`: one of this toolkit's, or one with other columns or none. `files` finds the
Parquet files, `rows` reads and checks rows one by one, `comparisons` compares them with each other, `findings` is the
report.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path

from toolkit.core import Progress, ignore
from toolkit.core.answers import LONGEST_ANSWER_NAME
from toolkit.core.errors import ToolkitError
from toolkit.core.folder import unwritable, write_json
from toolkit.core.layout import VALIDATION
from toolkit.core.recipe import DatasetSettings
from toolkit.data.dataset import locate_dataset
from toolkit.data.validation.comparisons import ComparedRow, compare_rows, compared_rows
from toolkit.data.validation.files import CHECKED_COLUMNS, Shard, open_shards, read_own_manifest
from toolkit.data.validation.findings import CODES, Findings, Report, Skipped
from toolkit.data.validation.rows import CheckedRow, Turn, check_row, check_tokens, learn_shared, read_batches
from toolkit.model.base import locate_base_to_load
from toolkit.model.loading import load_tokenizer

__all__ = ["Report", "validate", "write_report"]


def validate(
    dataset: str | Path,
    *,
    revision: str | None = None,
    strict: bool = False,
    base: str | None = None,
    max_length: int | None = None,
    near_duplicate: float | None = None,
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

    Raises:
        InputError: No such folder or id, no Parquet file in it, or no tokenizer of such a base.
        HubError, EnvironmentLacks: The Hub refuses a download or cannot be reached.
    """
    tokenizer = load_tokenizer(locate_base_to_load(base, weights=False).path) if base else None
    tokens = partial(check_tokens, tokenizer, max_length) if tokenizer else None
    located, found = locate_dataset(str(dataset), revision), Findings()
    folder, files = located.path, located.files()
    manifest = read_own_manifest(folder, found)
    shards = open_shards(files, folder, CHECKED_COLUMNS if manifest else (), found)
    columns = set.intersection(*(set(shard.columns) for shard in shards)) if shards else set()
    counts = {shard.split: 0 for shard in shards}
    check = partial(check_row, learn_shared(_sample(shards)), "creature" in columns, tokens, found)
    rows = compared_rows(_checked_batches(shards, counts, check, found, progress))
    for split in [split for split, count in counts.items() if not count]:
        found.add("schema.empty-split", split)
    if counts and "train" not in counts:
        found.add("schema.no-train", next(iter(counts)))
    progress("comparing", 0, None)
    settings = manifest.get("settings", {})
    near_duplicate = near_duplicate or settings.get("near_duplicate") or DatasetSettings().near_duplicate
    skipped = compare_rows(rows, columns, settings.get("answer"), near_duplicate, found)
    skipped |= _not_checked(columns, int(rows.unnamed.sum()), base, max_length)
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
        yield from (row.turns for row in next(read_batches(shard, 0, Findings()), []) if row.turns)


def _checked_batches(
    shards: Sequence[Shard],
    counts: dict[str, int],
    check: Callable[[CheckedRow, str], ComparedRow | None],
    found: Findings,
    progress: Progress,
) -> Iterator[list[ComparedRow]]:
    """Check each row by itself, and yield what is compared; `counts` are the rows of each split."""
    first = dict.fromkeys(counts, 0)
    for shard in shards:
        for batch in read_batches(shard, first[shard.split], found):
            yield [kept for row in batch if (kept := check(row, shard.split))]
            counts[shard.split] += len(batch)
            progress("checking rows", sum(counts.values()), sum(shard.rows for shard in shards))
        first[shard.split] += shard.rows


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
