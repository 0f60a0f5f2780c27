"""Where descriptions come from. Each source yields Records, lazily, and facts about itself; none cleans or masks."""

from __future__ import annotations

from collections.abc import Iterable

from toolkit.recipe import DatasetSettings
from toolkit.record import Record
from toolkit.sources.corpus import read_corpus
from toolkit.sources.facts import SourceFacts
from toolkit.sources.hub import read_hub
from toolkit.sources.pokeapi import read_pokeapi
from toolkit.sources.table import read_table

__all__ = ["SourceFacts", "read_records"]


def read_records(settings: DatasetSettings) -> tuple[Iterable[Record], SourceFacts]:
    """The records of the source that the settings name, and facts about it.

    Raises:
        InputError: The source can not be found or used. A damaged row raises it while the records are iterated.
        EnvironmentLacks, HubError: It can not be fetched.
    """
    readers = {"corpus": read_corpus, "pokeapi": read_pokeapi, "hub": read_hub, "table": read_table}
    return readers[settings.source](settings)
