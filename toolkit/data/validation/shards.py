"""The Parquet files of any dataset folder: which split each is of, and whether it holds chat rows. Reads no row."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.core.errors import InputError
from toolkit.core.folder import is_manifest, read_json, sha256_file
from toolkit.core.layout import MANIFEST, REJECTED, SPLITS
from toolkit.data.validation.findings import Findings

TEXT_COLUMNS = ("id", "answer", "description", "creature", "family", "name_en", "name_ko", "language")
# A damaged file may tell of more rows than there are atoms.
MOST_ROWS = 2**40

_SHARD = re.compile(r"[-_.]?\d{4,6}(?:-of-\d{4,6})?$")
_OTHER_NAME = re.compile(r"name_[a-z]{2,3}")


@dataclass(frozen=True, slots=True)
class Shard:
    """A file with a column `messages` of the right form.

    Attributes:
        columns: Its other columns that checks use and that are text.
        rows: How many rows its footer tells of.
    """

    split: str
    name: str
    path: Path
    columns: tuple[str, ...]
    rows: int


def find_files(path: Path) -> dict[str, list[Path]]:
    """Parquet files by split, known splits first. What the build rejected is no split, and hidden files are nobody's.

    Raises:
        InputError: No such folder, or no Parquet file in it.
    """
    if not path.is_dir():
        raise InputError(f"There is no dataset folder {path}.", "Make one with `pkt build-dataset`.")
    files = sorted(
        file
        for file in path.rglob("*.parquet")
        if file != path / REJECTED
        and not file.is_dir()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if not files:
        raise InputError(f"{path} has no Parquet file.", "Name a folder with Parquet files of chat rows.")
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(_split_of(file, path), []).append(file)
    return {split: by_split[split] for split in sorted(by_split, key=lambda name: (_rank(name), name))}


def _split_of(file: Path, root: Path) -> str:
    """`data/train-00000-of-00002.parquet` and `default/train/0000.parquet` are both of `train`."""
    stem = _SHARD.sub("", file.stem)
    if not stem:
        stem = file.parent.name if file.parent != root else "train"
    return _readable(stem)


def _readable(name: str) -> str:
    """A file's name as text: names need not be UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")


def _rank(split: str) -> int:
    return SPLITS.index(split) if split in SPLITS else len(SPLITS)


def read_own_manifest(path: Path, found: Findings) -> dict[str, Any]:
    """The manifest when this toolkit wrote the folder, else nothing. Its files must be those that it tells of."""
    if not (path / MANIFEST).is_file():
        return {}
    try:
        manifest = read_json(path / MANIFEST)
    except (InputError, RecursionError):
        found.add("manifest.hash", MANIFEST, text="no JSON")
        return {}
    if not is_manifest(manifest, "dataset"):
        return {}
    listed = manifest.get("files")
    for name, digest in sorted(listed.items()) if isinstance(listed, dict) else ():
        _check_file(path, name, digest, found)
    return dict(manifest)


def _check_file(path: Path, name: str, digest: object, found: Findings) -> None:
    relative = Path(name)
    if relative.is_absolute() or ".." in relative.parts:
        found.add("manifest.hash", name, text="outside the folder")
    elif not (path / name).is_file():
        # A dataset may be downloaded without its figures.
        if name.endswith(".parquet") and name != REJECTED:
            found.add("manifest.hash", name, text="missing")
    elif sha256_file(path / name) != digest:
        found.add("manifest.hash", name, text="changed since it was written")


def open_shards(files: dict[str, list[Path]], root: Path, required: Collection[str], found: Findings) -> list[Shard]:
    """The files that hold chat rows; what is wrong with others is found, and that a required column is missing."""
    import pyarrow.parquet

    shards = []
    for split, paths in files.items():
        for path in paths:
            name = _readable(path.relative_to(root).as_posix())
            try:
                with pyarrow.parquet.ParquetFile(path) as file:
                    schema, rows = file.schema_arrow, file.metadata.num_rows
                    fields = [(field.name, field.type) for field in schema]
            except damage() as error:
                found.add("schema.file", split, text=f"{name}: {said(error, path)}")
                continue
            problem = _problem_with_messages(fields)
            if problem:
                found.add("schema.messages", split, text=f"{name}: {problem}")
                continue
            for column in sorted(set(required) - {column for column, _ in fields}):
                found.add("schema.column", split, text=f"{name}: no `{column}`")
            columns = tuple(_usable_columns(fields, split, name, found))
            shards.append(Shard(split, name, path, columns, max(0, min(rows, MOST_ROWS))))
    return shards


def damage() -> tuple[type[Exception], ...]:
    """What reading a damaged file raises."""
    import pyarrow

    return pyarrow.ArrowException, OSError, UnicodeDecodeError, OverflowError


def said(error: Exception, path: Path) -> str:
    """What an error says, without where on this machine the file is."""
    return (str(error).splitlines() or [type(error).__name__])[0].replace(str(path), path.name)


def _problem_with_messages(fields: list[tuple[str, Any]]) -> str | None:
    kinds = [kind for name, kind in fields if name == "messages"]
    if not kinds:
        return f"its columns are {', '.join(name for name, _ in fields) or 'none'}"
    if len(kinds) > 1:
        return "`messages` is there twice"
    if _is_text(kinds[0]):
        return "`messages` is text, perhaps JSON, which is to be parsed into lists of {role, content}"
    turn = _item(kinds[0])
    if turn is None:
        return f"`messages` is {kinds[0]}"
    inner = [(field.name, field.type) for field in turn]
    for name in ("role", "content"):
        found = [kind for other, kind in inner if other == name]
        if not found:
            return f"its turns have {', '.join(other for other, _ in inner) or 'nothing'}, no `{name}`"
        if not _is_text(found[0]):
            return f"the `{name}` of its turns is {found[0]}"
    return None


def _item(kind: Any) -> Any:
    """The struct that a list type is of, or None."""
    import pyarrow.types as types

    listed = (
        types.is_list,
        types.is_large_list,
        types.is_fixed_size_list,
        types.is_list_view,
        types.is_large_list_view,
    )
    if not any(is_kind(kind) for is_kind in listed) or not types.is_struct(kind.value_type):
        return None
    return kind.value_type


def _is_text(kind: Any) -> bool:
    import pyarrow.types as types

    kind = getattr(kind, "storage_type", kind)
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _usable_columns(fields: list[tuple[str, Any]], split: str, file: str, found: Findings) -> Iterator[str]:
    import pyarrow.types as types

    for name in dict.fromkeys(name for name, _ in fields):
        if name not in TEXT_COLUMNS and not _OTHER_NAME.fullmatch(name):
            continue
        kinds = [kind for other, kind in fields if other == name]
        if len(kinds) > 1:
            found.add("schema.column", split, text=f"{file}: `{name}` is there twice")
        elif _is_text(kinds[0]) or (name == "id" and types.is_integer(kinds[0])):
            yield name
        elif not types.is_null(kinds[0]):
            found.add("schema.column", split, text=f"{file}: `{name}` is {kinds[0]}")
