"""Any dataset on the Hub, or a folder laid out like one: streamed, and only the columns that are used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core.errors import HubError, InputError, library_errors
from toolkit.core.folder import content_hash
from toolkit.core.hub_client import hub, hub_errors, public_location, without_secrets
from toolkit.core.recipe import SourceSettings
from toolkit.data.sources import records
from toolkit.data.sources.records import Columns, Record, SourceFacts, TableRow

if TYPE_CHECKING:
    from datasets import DatasetBuilder, IterableDataset

SEED_DATASET = "jugg1024/pokemon-gpt4o-captions"
COLUMN_SETTINGS = ("description_column", "name_column", "name_language", "family_column")

BATCH_ROWS = 1024
READ_AHEAD = 1 << 16
"""Bytes fetched beyond those asked for, where the columns that are used lie between others. The client's own 5 MB would
be images, once for every row group."""


def read_hub(source: SourceSettings, languages: Sequence[str]) -> tuple[SourceFacts, Iterator[Record]]:
    """All rows of all splits of a dataset; the seed's data by default.

    `location` is `owner/name`, or `owner/name:config` for a dataset with several configs. Images and other columns
    are neither decoded nor, where the files are Parquet, downloaded.

    Raises:
        InputError: A missing column or config, or files that are no dataset; while iterating, one that is damaged.
        HubError: No such dataset or revision, or the Hub cannot be reached.
        EnvironmentLacks: The dataset is gated, or needs a login.
    """
    records.refuse_other_settings(source, "location", "revision", *COLUMN_SETTINGS)
    location, config = source.location or SEED_DATASET, None
    if not Path(location).is_dir() and "//" not in location and ":" in location:
        location, _, config = location.rpartition(":")
    facts = (_folder_facts if Path(location).is_dir() else _hub_facts)(location, config, source.revision)
    splits, columns = _open(location, config, facts.revision, source)
    revision = f"@{facts.revision[:12]}" if facts.revision else ""

    def rows() -> Iterator[TableRow]:
        for name, split in splits.items():
            labels = records.class_labels(split.features.to_dict() if split.features else {})
            for number, row in enumerate(_rows(split, facts.location), 1):
                place = f"{facts.location}{revision}/{name}:{number}"
                where = f"The dataset {facts.location}, split {name}, row {number}"
                yield TableRow(records.with_labels(row, labels, where), columns, place, where)

    return facts, records.records_of(rows(), facts, languages)


def _folder_facts(location: str, config: str | None, revision: str | None) -> SourceFacts:
    if revision is not None:
        raise InputError(f"The folder {location} has no revisions.", "Leave `revision` out.")
    shown = Path(location).resolve().name + (f":{config}" if config else "")
    return SourceFacts("hub", shown, None, "other", content_hash(Path(location)))


def _hub_facts(location: str, config: str | None, revision: str | None) -> SourceFacts:
    """Facts with the revision as a commit, which names the content."""
    with hub_errors(f"The dataset {without_secrets(location.partition('?')[0])}"):
        info = hub().dataset_info(location, revision=revision)
    stated = info.card_data.get("license") if info.card_data else None
    license = stated if isinstance(stated, str) else "other"
    shown = public_location(location) + (f":{config}" if config else "")
    return SourceFacts("hub", shown, str(info.sha), license, str(info.sha))


def _open(
    location: str, config: str | None, revision: str | None, source: SourceSettings
) -> tuple[dict[str, IterableDataset], Columns]:
    """Streams of the splits, reduced to the columns that are read."""
    with _dataset_errors(location):
        builder = _builder(location, config, revision)
        first = next(iter(builder.as_streaming_dataset().values()))
        # A format that knows no schema shows its columns in its first row.
        available = first.column_names or list(next(iter(first.take(1)), {}))
    if not available:
        raise InputError(f"The dataset {location} is empty.", "Choose one with rows.")
    columns = records.choose_columns(available, source, location)
    with _dataset_errors(location):
        # Parquet can be read by columns. By default a batch is the first group of rows, which an empty file lacks.
        if hasattr(builder.config, "columns"):
            ahead = {"hf": {"block_size": READ_AHEAD}}
            few = {"columns": columns.all, "batch_size": BATCH_ROWS, "storage_options": ahead}
            builder = _builder(location, config, revision, **few)
        splits = builder.as_streaming_dataset()
        return {name: split.select_columns(columns.all) for name, split in splits.items()}, columns


def _builder(location: str, config: str | None, revision: str | None, **options: Any) -> DatasetBuilder:
    from datasets import get_dataset_config_names, load_dataset_builder

    try:
        return load_dataset_builder(location, config, revision=revision, **options)
    except ValueError as error:
        known = get_dataset_config_names(location, revision=revision)
        if config in known or (config is None and len(known) == 1):
            raise
        found = f"has no config {config!r}" if config else "has several configs"
        raise InputError(
            f"The dataset {location} {found}; its configs are {', '.join(known)}.",
            f'Name one behind a colon: `location="{location}:{known[0]}"`.',
        ) from error


def _rows(split: IterableDataset, location: str) -> Iterator[Mapping[str, object]]:
    with _dataset_errors(location):
        yield from split


@contextmanager
def _dataset_errors(location: str) -> Iterator[None]:
    """Translate errors of the Hub, of `datasets` and of the formats that it reads."""
    from datasets.exceptions import DatasetNotFoundError

    subject = f"The dataset {location}"
    with library_errors(f"{subject} cannot be read", "Choose a dataset of Parquet, CSV or JSON lines files."):
        try:
            with hub_errors(subject):
                yield
        except DatasetNotFoundError as error:
            with hub_errors(subject):
                # `datasets` does not say why.
                hub().auth_check(location, repo_type="dataset")
            raise HubError(f"There is no dataset {location} on the Hub.", "Check its id, and `revision`.") from error
