"""The front matter of a dataset card: what the Hub reads and searches by. Knows nothing of the card's text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from toolkit.cards.model.metadata import is_hub_id

SIZES = (
    *((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")),
    *((10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M")),
)
LARGEST = "100M<n<1B"
# Licence ids that the Hub knows; any other is written as `other` with its name.
HUB_LICENSES = frozenset(
    {
        *("apache-2.0", "artistic-2.0", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "gfdl", "gpl-3.0", "isc", "mit"),
        *("cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0"),
        *("cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0"),
        *("odbl", "odc-by", "pddl", "cdla-permissive-2.0", "cdla-sharing-1.0", "unlicense"),
    }
)
ANSWERS = {"en": ("en",), "ko": ("ko",), "both": ("en", "ko")}
TAGS = ("chat", "korean", "naming", "instruction-tuning")
LANGUAGE = re.compile(r"[a-z]{2,3}")


def front_matter(facts: Mapping[str, Any], rows: Mapping[str, int], languages: Sequence[str], title: str) -> str:
    """The card's YAML, without its `---` lines.

    Args:
        facts: What the build knows, as the manifest holds it.
        rows: Rows of each split that has any.
        languages: Languages of the descriptions.
        title: Name of the dataset as a person reads it.
    """
    from huggingface_hub import DatasetCardData

    spoken = {"ko", *ANSWERS[facts["settings"]["answer"]], *filter(LANGUAGE.fullmatch, languages)}
    license = facts["license"].lower()
    known = license in HUB_LICENSES
    kinds = {source["name"] for source in facts["sources"]}
    written, found = "corpus" in kinds, bool(kinds - {"corpus"})
    data = DatasetCardData(
        language=sorted(spoken),
        license=license if known else "other",
        license_name=None if known else "see-card",
        pretty_name=title,
        size_categories=[_size(sum(rows.values()))],
        task_categories=["text-generation"],
        multilinguality=["multilingual" if len(spoken) > 1 else "monolingual"],
        # The names came with the texts, or the texts were written for the names.
        annotations_creators=[*(["no-annotation"] if written else []), *(["found"] if found else [])],
        language_creators=[*(["machine-generated"] if written else []), *(["found"] if found else [])],
        source_datasets=list(dict.fromkeys(map(_origin, facts["sources"]))),
        tags=[*(["pokemon"] if facts["pokemon"] else []), *(["synthetic"] if written else []), *TAGS],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in rows],
            }
        ],
    )
    return str(data.to_yaml())


def _origin(source: Mapping[str, Any]) -> str:
    """What a dataset was made from, in the Hub's words: itself, a dataset there, or something else."""
    if source["name"] == "corpus":
        return "original"
    return source["location"] if source["name"] == "hub" and is_hub_id(source["location"]) else "extended|other"


def _size(rows: int) -> str:
    return next((name for limit, name in SIZES if rows < limit), LARGEST)
