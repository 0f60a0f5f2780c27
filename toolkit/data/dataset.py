"""Drafts to the Parquet files of a dataset folder: one for each split, one for what was dropped.

Knows nothing of how a split was dealt, or why a draft was dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from toolkit.core.layout import REJECTED
from toolkit.core.recipe import DatasetSettings
from toolkit.data.cleaning import Draft
from toolkit.model.chat import naming_messages, request_variants

ROW_GROUP = 10_000


def write_split(folder: Path, split: str, drafts: list[Draft], settings: DatasetSettings) -> None:
    """Write the rows of a split, as the conversations that the settings ask for."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.string()
    message = pa.struct([("role", text), ("content", text)])
    columns = ("answer", "description", "creature", "family", "name_en", "name_ko", "language", "source", "source_ref")
    schema = pa.schema(
        [("id", text), ("messages", pa.list_(message)), *((name, text) for name in (*columns, "license", "attributes"))]
    )
    path = folder / "data" / f"{split}-00000-of-00001.parquet"
    path.parent.mkdir(exist_ok=True)
    requests = [settings.request] if settings.request else request_variants(settings.request_variants)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in _batches(drafts):
            writer.write_table(pa.Table.from_pylist([_row(draft, settings, requests) for draft in batch], schema))


def _row(draft: Draft, settings: DatasetSettings, requests: Sequence[str]) -> dict[str, Any]:
    creature = draft.creature
    answer = creature.answer(settings.answer)
    # The id is a hash of the row, so a row has the same request whatever else is in the dataset.
    request = requests[int(draft.id, 16) % len(requests)]
    return {
        "id": draft.id,
        "messages": [
            *naming_messages(draft.text, request, settings.system),
            {"role": "assistant", "content": answer},
        ],
        "answer": answer,
        "description": draft.text,
        "creature": creature.key,
        "family": creature.family,
        "name_en": creature.names.get("en"),
        "name_ko": creature.names.get("ko"),
        "language": draft.language,
        "source": draft.source,
        "source_ref": draft.source_ref,
        "license": draft.license,
        "attributes": draft.attributes,
    }


def write_rejected(folder: Path, drafts: list[Draft]) -> None:
    """Write what was dropped, with its reason; no file when nothing was."""
    if not drafts:
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ("reason", "creature", "description", "language", "source", "source_ref")
    schema = pa.schema([(name, pa.string()) for name in names])
    with pq.ParquetWriter(folder / REJECTED, schema, compression="zstd") as writer:
        for batch in _batches(drafts):
            rows = [
                (draft.reason, draft.creature.key, draft.text, draft.language, draft.source, draft.source_ref)
                for draft in batch
            ]
            writer.write_table(pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema))


def _batches(drafts: list[Draft]) -> Iterator[list[Draft]]:
    for start in range(0, len(drafts), ROW_GROUP):
        yield drafts[start : start + ROW_GROUP]
