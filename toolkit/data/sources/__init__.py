"""Where descriptions come from: the corpus of the package, PokéAPI, tables in files, datasets of the Hub.

Each reader yields `Record`s, lazily and as they are, and facts about its source.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from toolkit.core.recipe import DatasetSettings
from toolkit.data.sources.corpus import read_corpus
from toolkit.data.sources.hub import read_hub
from toolkit.data.sources.pokeapi import read_pokeapi
from toolkit.data.sources.records import Record, SourceFacts, wanted_languages
from toolkit.data.sources.table import read_table

__all__ = ["SourceFacts", "read_records"]


def read_records(settings: DatasetSettings) -> Sequence[tuple[SourceFacts, Iterable[Record]]]:
    """Facts about each source that the settings name, and its records.

    Raises:
        InputError: A source cannot be found or used. A damaged row raises it while the records are iterated.
        EnvironmentLacks, HubError: It cannot be fetched.
    """
    readers = {"corpus": read_corpus, "pokeapi": read_pokeapi, "hub": read_hub, "table": read_table}
    languages = wanted_languages(settings)
    return [readers[source.name](source, languages) for source in settings.sources]
