"""What tests share: datasets."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from toolkit.core.recipe import DatasetSettings, SourceSettings, load_recipe
from toolkit.data.batches import LocalEngine
from toolkit.data.build import BuildResult, build_dataset
from toolkit.data.duplicates import cluster_texts, text_digest

PARTS = ("horns", "wings", "scales", "claws", "whiskers", "feathers", "tusks", "spines", "fins", "antlers", "hooves")

PLACES = (
    "caves",
    "marshes",
    "forests",
    "deserts",
    "reefs",
    "meadows",
    "rivers",
    "ruins",
    "glaciers",
    "cliffs",
    "dunes",
)

DEEDS = (
    "sings",
    "digs",
    "sparkles",
    "hibernates",
    "glides",
    "hunts",
    "whistles",
    "burrows",
    "dances",
    "howls",
    "floats",
)


def table(folder: Path, rows: Iterable[dict[str, str]]) -> str:
    path = folder / "table.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def creatures(count: int = 20, texts: int = 6, family_of: int = 2) -> list[dict[str, str]]:
    """Rows of creatures in families, each description with words of its own."""
    return [
        {
            "name": f"Beast{chr(97 + number // 26)}{chr(97 + number % 26)}",
            "family": f"family-{number // family_of}",
            "description": f"Number{number}a{text} {DEEDS[text % 11]} near {PLACES[number % 11]} with "
            f"{PARTS[(number + text) % 11]} tagged w{number * 31 + text}q v{number * 17 + text * 3}z u{text}x{number}.",
        }
        for number in range(count)
        for text in range(texts)
    ]


def build(out: Path, settings: DatasetSettings, seed: int = 7, name: str = "test", **options: Any) -> BuildResult:
    """A dataset folder of these settings; the recipe's other sections are the demo's."""
    recipe = load_recipe("demo").model_copy(update={"dataset": settings, "seed": seed, "name": name})
    return build_dataset(out, recipe, **options)


def from_table(location: str, **changes: Any) -> DatasetSettings:
    return DatasetSettings(sources=[SourceSettings(name="table", location=location)], **changes)


def near_duplicates(texts: list[str], threshold: float = 0.7) -> list[int]:
    """The cluster of each text."""
    digests = np.asarray([text_digest(text) for text in texts])
    return cluster_texts(LocalEngine(), pa.table({"text": texts}), "text", digests, threshold).tolist()
