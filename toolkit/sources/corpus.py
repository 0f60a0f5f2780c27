"""The embedded corpus: creatures and descriptions written for this project."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from toolkit.errors import InputError
from toolkit.recipe import DatasetSettings
from toolkit.record import Record
from toolkit.sources.facts import SourceFacts, wanted_languages

LICENSE = "CC0-1.0"
CREATURES, DESCRIPTIONS = "creatures.jsonl", "descriptions.jsonl"


def read_corpus(settings: DatasetSettings) -> tuple[Iterator[Record], SourceFacts]:
    """The corpus in the languages that the settings ask for.

    Raises:
        InputError: The settings name a location or revision, which the corpus does not have.
    """
    if settings.location is not None or settings.revision is not None:
        raise InputError(
            "The source corpus is part of the toolkit and has no location or revision.",
            "Leave --from and --revision out, or choose another --source.",
        )
    languages = wanted_languages(settings)
    texts = {name: _packaged(name) for name in (CREATURES, DESCRIPTIONS)}
    digest = hashlib.sha256("\n".join(texts.values()).encode()).hexdigest()
    facts = SourceFacts("corpus", "embedded corpus", f"sha256:{digest[:12]}", LICENSE, digest)
    return _records(_rows(texts[CREATURES]), _rows(texts[DESCRIPTIONS]), languages), facts


def _packaged(name: str) -> str:
    try:
        return (files("toolkit.corpus") / name).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"The toolkit was installed without its corpus ({name}).", "Install it again.") from error


def _rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _records(
    creatures: list[dict[str, Any]], descriptions: list[dict[str, Any]], languages: tuple[str, ...]
) -> Iterator[Record]:
    known = {creature["key"]: creature for creature in creatures}
    for number, row in enumerate(descriptions, 1):
        creature = known[row["creature"]]
        if row["language"] in languages:
            yield Record(
                key=creature["key"],
                names={"en": creature["name_en"], "ko": creature["name_ko"]},
                family=creature["family"],
                description=row["text"],
                language=row["language"],
                source="corpus",
                source_ref=f"{DESCRIPTIONS}:{number}",
                license=LICENSE,
                attributes={
                    "generation": creature["generation"],
                    "register": row["register"],
                    "types": creature["types"],
                },
            )
