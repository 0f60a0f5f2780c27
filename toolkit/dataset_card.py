"""The dataset card from a folder's own files: its Parquet files and the facts of its manifest in, `README.md` out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from toolkit.escape import fence, md_cell, md_text
from toolkit.rows import SPLITS, split_files
from toolkit.words import number

TEMPLATE = "dataset_card.md.jinja"
PURPOSES = {
    "train": ("to learn from", "학습"),
    "validation": ("known creatures, other descriptions: to watch training", "검증: 아는 개체의 다른 설명"),
    "test": ("known creatures, descriptions never seen: to measure", "평가: 아는 개체의 새 설명"),
    "unseen": ("whole families never seen: to invent names for", "미지의 계열 전체"),
}
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
LARGEST = "1M<n<10M"
# Licence ids that the Hub knows; any other is written as `other` with its name.
HUB_LICENSES = frozenset(
    {"apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-sa-4.0", "cc0-1.0", "mit"}
)
SHOWN_LICENSES = 20
EXAMPLE_CHARACTERS = 2_000


def render_dataset_card(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write `README.md` of a dataset folder.

    Args:
        folder: Holds the Parquet files of the splits.
        facts: What the build knows, as `manifest.json` will hold it.
    """
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False
    )
    template = (files("toolkit.dataset_cards") / TEMPLATE).read_text(encoding="utf-8")
    card = environment.from_string(template).render(card_facts(folder, facts))
    (folder / "README.md").write_text(card, encoding="utf-8")


def card_facts(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """All that the card says: escaped text, formatted numbers, booleans."""
    rows = {split: count for split in SPLITS if (count := _count(folder, split))}
    columns = _columns(folder)
    settings, source = facts["settings"], facts["sources"][0]
    return {
        "front_matter": front_matter(facts, rows, columns["language"]),
        "title": _title(facts),
        "pokemon": facts["pokemon"],
        "rows": number(sum(rows.values())),
        "creatures": number(facts["creatures"]),
        "families": number(facts["families"]),
        "splits": [
            {"name": split, "rows": number(count), "english": PURPOSES[split][0], "korean": PURPOSES[split][1]}
            for split, count in rows.items()
        ],
        "example": _example(folder),
        "description_languages": [md_text(language) for language in sorted(columns["language"])],
        "answer": {"en": "the English name", "ko": "the Korean name", "both": "the Korean name with the English one"}[
            settings["answer"]
        ],
        "source": {
            "name": source["name"],
            "location": md_text(source["location"], 200),
            "revision": md_text(source["revision"], 80) if source["revision"] else None,
            "content_hash": md_text(source["content_hash"]),
        },
        "mask": md_text(settings["mask"]),
        "other_mask": md_text(settings["other_mask"]),
        "near_duplicate": f"{settings['near_duplicate']:g}",
        "read": number(facts["read"]),
        "dropped": [
            {"what": md_cell(entry["what"]), "rows": number(entry["rows"])} for entry in facts["dropped"].values()
        ],
        "dropped_rows": number(sum(entry["rows"] for entry in facts["dropped"].values())),
        "licenses": [
            {"name": md_cell(name, 60), "rows": number(count)}
            for name, count in columns["license"].most_common(SHOWN_LICENSES)
        ],
        "recipe": md_text(facts["recipe"], 200),
        "seed": facts["seed"],
    }


def front_matter(facts: Mapping[str, Any], rows: Mapping[str, int], languages: Mapping[str, int]) -> str:
    """The card's YAML, without its `---` lines."""
    from huggingface_hub import DatasetCardData

    source = facts["sources"][0]
    license = facts["license"].lower()
    known = license in HUB_LICENSES
    written = source["name"] == "corpus"
    data = DatasetCardData(
        language=sorted({"ko", "en", *languages}),
        license=license if known else "other",
        pretty_name=_title(facts),
        size_categories=[_size(sum(rows.values()))],
        task_categories=["text-generation"],
        multilinguality=["multilingual"],
        annotations_creators=["no-annotation"],
        language_creators=["machine-generated" if written else "found"],
        source_datasets=["original" if written else source["location"] if _is_hub_id(source) else "extended|other"],
        tags=[*(["pokemon"] if facts["pokemon"] else []), "chat", "korean", "naming"],
        license_name=None if known else "see-card",
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in rows],
            }
        ],
    )
    return str(data.to_yaml())


def _title(facts: Mapping[str, Any]) -> str:
    return "Pokémon names from descriptions" if facts["pokemon"] else "Names from descriptions"


def _size(rows: int) -> str:
    return next((name for limit, name in SIZES if rows < limit), LARGEST)


def _is_hub_id(source: Mapping[str, Any]) -> bool:
    return source["name"] == "hub" and str(source["location"]).count("/") == 1


def _count(folder: Path, split: str) -> int:
    import pyarrow.parquet

    return sum(pyarrow.parquet.read_metadata(file).num_rows for file in split_files(folder, split))


def _columns(folder: Path) -> dict[str, Counter[str]]:
    """How many rows have which value, for the columns that the card tells of."""
    import pyarrow.parquet

    counted: dict[str, Counter[str]] = {"language": Counter(), "license": Counter()}
    for file in (file for split in SPLITS for file in split_files(folder, split)):
        table = pyarrow.parquet.read_table(file, columns=list(counted))
        for name, counts in counted.items():
            for entry in table[name].value_counts().to_pylist():
                counts[entry["values"]] += entry["counts"]
    return counted


def _example(folder: Path) -> str:
    """The first row of train, as a fenced conversation."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(split_files(folder, "train")[0]) as file:
        row = next(file.iter_batches(1, columns=["messages"])).to_pylist()[0]
    turns = (f"{turn['role']}:\n{turn['content'][:EXAMPLE_CHARACTERS]}" for turn in row["messages"])
    return fence("\n\n".join(turns), "text")
