"""Shared by the tests of the sources: read one, to the end."""

from __future__ import annotations

from typing import Any

from toolkit.recipe import DatasetSettings, SourceSettings
from toolkit.record import Record
from toolkit.sources import SourceFacts, read_records


def read(name: str, *, description_language: str = "en", **source: Any) -> tuple[list[Record], SourceFacts]:
    """All records of one source, and its facts."""
    settings = DatasetSettings(sources=[SourceSettings(name=name, **source)], description_language=description_language)
    ((facts, records),) = read_records(settings)
    return list(records), facts
