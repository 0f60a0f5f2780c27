"""The Parquet files of a dataset folder: the split of each, its columns, and whether it is what the manifest names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core.errors import InputError, library_errors
from toolkit.core.folder import is_manifest, read_json, sha256_file
from toolkit.core.layout import MANIFEST, REJECTED
from toolkit.data.dataset import no_messages, parquet_of
from toolkit.data.validation.findings import Findings

if TYPE_CHECKING:
    import pyarrow as pa

CHECKED_COLUMNS = ("id", "answer", "description", "creature", "family", "name_en", "name_ko", "language")

_OTHER_NAME = re.compile(r"name_[a-z]{2,3}")


@dataclass(frozen=True, slots=True)
class Shard:
    """A file of a split: `name` is its path within the dataset, `columns` are its texts that the checks read."""

    split: str
    name: str
    path: Path
    columns: tuple[str, ...]
    rows: int


def read_own_manifest(folder: Path, found: Findings) -> dict[str, Any]:
    """The manifest of a folder that this toolkit wrote, else an empty one; the files that it names are compared."""
    if not (folder / MANIFEST).is_file():
        return {}
    try:
        manifest = read_json(folder / MANIFEST)
    except InputError:
        found.add("manifest.hash", MANIFEST, text="no JSON")
        return {}
    if not is_manifest(manifest, "dataset"):
        return {}
    for name, digest in sorted(manifest.get("files", {}).items()):
        if not (folder / name).is_file():
            # A dataset may be downloaded without its figures.
            if name.endswith(".parquet") and name != REJECTED:
                found.add("manifest.hash", name, text="missing")
        elif sha256_file(folder / name) != digest:
            found.add("manifest.hash", name, text="changed since it was written")
    return dict(manifest)


def open_shards(files: dict[str, list[Path]], folder: Path, required: Collection[str], found: Findings) -> list[Shard]:
    """The files that hold conversations; damaged files, other forms and missing required columns become findings."""
    import pyarrow.parquet

    shards = []
    for split, paths in files.items():
        for path in paths:
            name = path.relative_to(folder).as_posix()
            with damage_found(split, name, path, found), pyarrow.parquet.ParquetFile(parquet_of(path)) as file:
                schema, rows = file.schema_arrow, file.metadata.num_rows
                if problem := _problem_with_messages(schema):
                    found.add("schema.messages", split, text=f"{name}: {problem}")
                    continue
                for column in sorted(set(required) - set(schema.names)):
                    found.add("schema.column", split, text=f"{name}: no `{column}`")
                shards.append(Shard(split, name, path, tuple(_text_columns(schema, split, name, found)), rows))
    return shards


@contextmanager
def damage_found(split: str, name: str, path: Path, found: Findings) -> Iterator[None]:
    """Note what pyarrow raises on a file inside the block, without the file's place on this machine."""
    try:
        with library_errors(name, ""):
            yield
    except InputError as error:
        found.add("schema.file", split, text=error.found.replace(str(path), path.name))


def _problem_with_messages(schema: pa.Schema) -> str | None:
    import pyarrow.types as types

    kind = dict(zip(schema.names, schema.types, strict=True)).get("messages")
    if kind is None:
        return no_messages(schema.names)
    turn = getattr(kind, "value_type", None)
    texts = {field.name for field in turn if _is_text(field.type)} if turn and types.is_struct(turn) else set()
    return None if {"role", "content"} <= texts else f"`messages` is {kind}, no lists of {{role, content}}"


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _text_columns(schema: pa.Schema, split: str, file: str, found: Findings) -> Iterator[str]:
    import pyarrow.types as types

    for name, kind in zip(schema.names, schema.types, strict=True):
        if name in CHECKED_COLUMNS or _OTHER_NAME.fullmatch(name):
            if _is_text(kind) or (name == "id" and types.is_integer(kind)):
                yield name
            elif not types.is_null(kind):
                found.add("schema.column", split, text=f"{file}: `{name}` is {kind}")
