"""Any dataset on the Hub, or a folder laid out like one: streamed, and only the columns that are used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from toolkit.endpoint import hub, hub_errors, public_location
from toolkit.errors import HubError, InputError
from toolkit.folder import content_hash
from toolkit.recipe import DatasetSettings
from toolkit.record import Record
from toolkit.sources.columns import Columns, choose_columns, record_of
from toolkit.sources.facts import SourceFacts, wanted_languages

SEED_DATASET = "jugg1024/pokemon-gpt4o-captions"


def read_hub(settings: DatasetSettings) -> tuple[Iterator[Record], SourceFacts]:
    """All rows of all splits of a dataset; the seed's data by default.

    Images and other columns are neither decoded nor, where the files are Parquet, downloaded.

    Raises:
        InputError: A missing column, or files that are no dataset.
        HubError: No such dataset or revision, or the Hub can not be reached.
        EnvironmentLacks: The dataset needs a login.
    """
    location = settings.location or SEED_DATASET
    languages = wanted_languages(settings)
    if Path(location).is_dir():
        facts = SourceFacts("hub", Path(location).name, None, "other", content_hash(Path(location)))
    else:
        facts = _hub_facts(location, settings.revision)
    splits, columns = _open(location, facts.revision, settings)
    return _records(splits, columns, languages, facts), facts


def _hub_facts(location: str, revision: str | None) -> SourceFacts:
    """Facts with the revision as a commit, which names the content."""
    with hub_errors(f"The dataset {location}"):
        info = hub().dataset_info(location, revision=revision)
    stated = info.card_data.get("license") if info.card_data else None
    license = stated if isinstance(stated, str) else "other"
    return SourceFacts("hub", public_location(location), str(info.sha), license, str(info.sha))


def _open(location: str, revision: str | None, settings: DatasetSettings) -> tuple[dict[str, Any], Columns]:
    """Streams of the splits, reduced to the columns that are read."""
    from datasets import load_dataset, load_dataset_builder

    with _dataset_errors(location):
        builder = load_dataset_builder(location, revision=revision)
        splits = load_dataset(location, revision=revision, streaming=True)
        first = next(iter(splits.values()))
        available = first.column_names or list(next(iter(first.take(1)), {}))
        columns = choose_columns(available, settings, location)
        if hasattr(builder.config, "columns"):
            splits = load_dataset(location, revision=revision, streaming=True, columns=columns.all)
        return {name: split.select_columns(columns.all) for name, split in splits.items()}, columns


def _records(
    splits: dict[str, Any], columns: Columns, languages: tuple[str, ...], facts: SourceFacts
) -> Iterator[Record]:
    revision = f"@{facts.revision[:12]}" if facts.revision else ""
    for name, split in splits.items():
        with _dataset_errors(facts.location):
            for number, row in enumerate(split, 1):
                ref = f"{facts.location}{revision}/{name}:{number}"
                yield record_of(row, columns, languages, "hub", ref, facts.license)


@contextmanager
def _dataset_errors(location: str) -> Iterator[None]:
    """`hub_errors`, and what `datasets` raises of its own."""
    import pyarrow
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    try:
        with hub_errors(f"The dataset {location}"):
            yield
    except DatasetNotFoundError as error:
        raise HubError(
            f"There is no dataset {location} on the Hub.", "Check the id, --revision and --endpoint."
        ) from error
    except (DatasetsError, pyarrow.ArrowException, FileNotFoundError, UnicodeDecodeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"The dataset {location} can not be read: {reason}.",
            "Choose a dataset of Parquet, CSV or JSON lines files.",
        ) from error
