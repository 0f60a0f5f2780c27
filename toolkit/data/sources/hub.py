"""Any dataset on the Hub, or a folder laid out like one: streamed, and only the columns that are used."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from toolkit.core.errors import HubError, InputError
from toolkit.core.folder import content_hash
from toolkit.core.hub_client import hub, hub_errors, public_location, without_secrets
from toolkit.core.recipe import SourceSettings
from toolkit.data.record import Record
from toolkit.data.sources.columns import Columns, Origin, choose_columns, records_of
from toolkit.data.sources.facts import SourceFacts, refuse_other_settings

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
        HubError: No such dataset or revision, or the Hub can not be reached.
        EnvironmentLacks: The dataset is gated, or needs a login.
    """
    refuse_other_settings(source, "location", "revision", *COLUMN_SETTINGS)
    location, config = _named(source.location or SEED_DATASET)
    facts = _folder_facts(location, config, source) if Path(location).is_dir() else _hub_facts(location, config, source)
    splits, columns = _open(location, config, facts.revision, source)
    return facts, _records(splits, columns, languages, facts)


def _named(location: str) -> tuple[str, str | None]:
    """The dataset and the config that are meant."""
    dataset, mark, config = location.rpartition(":")
    return (location, None) if Path(location).is_dir() or not mark or "//" in location else (dataset, config)


def _folder_facts(location: str, config: str | None, source: SourceSettings) -> SourceFacts:
    if source.revision is not None:
        raise InputError(f"The folder {location} has no revisions.", "Leave --revision out.")
    shown = Path(location).resolve().name + (f":{config}" if config else "")
    return SourceFacts("hub", shown, None, "other", content_hash(Path(location)))


def _hub_facts(location: str, config: str | None, source: SourceSettings) -> SourceFacts:
    """Facts with the revision as a commit, which names the content."""
    with hub_errors(f"The dataset {without_secrets(location.partition('?')[0])}"):
        info = hub().dataset_info(location, revision=source.revision)
    stated = info.card_data.get("license") if info.card_data else None
    license = stated if isinstance(stated, str) else "other"
    shown = public_location(location) + (f":{config}" if config else "")
    return SourceFacts("hub", shown, str(info.sha), license, str(info.sha))


def _open(
    location: str, config: str | None, revision: str | None, source: SourceSettings
) -> tuple[dict[str, Any], Columns]:
    """Streams of the splits, reduced to the columns that are read."""
    with _dataset_errors(location):
        builder = _builder(location, config, revision)
        splits = builder.as_streaming_dataset()
        first = next(iter(splits.values()))
        # A format that knows no schema shows its columns in its first row.
        available = first.column_names or list(next(iter(first.take(1)), {}))
    if not available:
        raise InputError(f"The dataset {location} is empty.", "Choose one with rows.")
    columns = choose_columns(available, source, location)
    with _dataset_errors(location):
        if _picks_columns(builder):
            builder.config.columns = columns.all
            # By default it is the number of rows in a file's first group, which an empty file has none of.
            builder.config.batch_size = BATCH_ROWS
            splits = builder.as_streaming_dataset()
        return {name: split.select_columns(columns.all) for name, split in splits.items()}, columns


def _builder(location: str, config: str | None, revision: str | None) -> Any:
    from datasets import get_dataset_config_names, load_dataset_builder

    try:
        builder = load_dataset_builder(location, config, revision=revision)
        if _picks_columns(builder):
            few = {"hf": {"block_size": READ_AHEAD}}
            builder = load_dataset_builder(location, config, revision=revision, storage_options=few)
        return builder
    except ValueError as error:
        known = get_dataset_config_names(location, revision=revision)
        if config in known or (config is None and len(known) == 1):
            raise
        found = f"has no config {config!r}" if config else "has several configs"
        raise InputError(
            f"The dataset {location} {found}; its configs are {', '.join(known)}.",
            f"Name one behind a colon: --from {location}:{known[0]}.",
        ) from error


def _picks_columns(builder: Any) -> bool:
    """Whether its format can read some columns without the others: Parquet does."""
    return hasattr(builder.config, "columns")


def _records(
    splits: dict[str, Any], columns: Columns, languages: Sequence[str], facts: SourceFacts
) -> Iterator[Record]:
    revision = f"@{facts.revision[:12]}" if facts.revision else ""
    origin = Origin("hub", facts.license, languages)
    for name, split in splits.items():
        for number, row in enumerate(_rows(split, facts.location), 1):
            where = f"The dataset {facts.location}, split {name}, row {number}"
            yield from records_of(row, columns, origin, f"{facts.location}{revision}/{name}:{number}", where)


def _rows(split: Any, location: str) -> Iterator[dict[str, Any]]:
    with _dataset_errors(location):
        yield from split


@contextmanager
def _dataset_errors(location: str) -> Iterator[None]:
    """`hub_errors`, and whatever `datasets` and the formats that it reads raise of their own."""
    import pyarrow
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    try:
        with hub_errors(f"The dataset {location}"):
            yield
    except DatasetNotFoundError as error:
        with hub_errors(f"The dataset {location}"):
            # `datasets` keeps the reason to itself.
            hub().auth_check(location, repo_type="dataset")
        raise HubError(
            f"There is no dataset {location} on the Hub.", "Check the id, --revision and --endpoint."
        ) from error
    except (
        *(DatasetsError, pyarrow.ArrowException, zlib.error),
        *(OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError),
    ) as error:
        reason = without_secrets(str(error).strip().split("\n")[0]).rstrip(".") or type(error).__name__
        raise InputError(
            f"The dataset {location} can not be read: {reason}.",
            "Choose a dataset of Parquet, CSV or JSON lines files.",
        ) from error
