"""The embedded corpus: creatures and descriptions written for this project."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any

from toolkit.core.recipe import SourceSettings
from toolkit.data.sources.records import Record, SourceFacts, refuse_other_settings

LICENSE = "CC0-1.0"
CREATURES, DESCRIPTIONS = "creatures.jsonl", "descriptions.jsonl"


def read_corpus(source: SourceSettings, languages: Sequence[str]) -> tuple[SourceFacts, Iterator[Record]]:
    """The corpus in the languages asked for.

    Raises:
        InputError: The settings name a location, columns or an encoding.
    """
    refuse_other_settings(source)
    folder = files("toolkit.data.corpus")
    texts = {name: (folder / name).read_text(encoding="utf-8") for name in (CREATURES, DESCRIPTIONS)}
    digest = hashlib.sha256("\n".join(texts.values()).encode()).hexdigest()
    facts = SourceFacts("corpus", "embedded corpus", f"sha256:{digest[:12]}", LICENSE, digest)
    return facts, _records(_rows(texts[CREATURES]), _rows(texts[DESCRIPTIONS]), languages)


def _rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _records(
    creatures: list[dict[str, Any]], descriptions: list[dict[str, Any]], languages: Sequence[str]
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
                parallel=f"{creature['key']}/{row['register']}",
                attributes={
                    "generation": creature["generation"],
                    "register": row["register"],
                    "types": creature["types"],
                },
            )
