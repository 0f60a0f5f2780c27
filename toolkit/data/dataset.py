"""A dataset folder as rows: find it by path or Hub id, read and write its splits.

The names of files and columns are in `core/layout.py`. A row is a conversation in `messages` and texts beside it.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from glob import escape
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core.errors import EnvironmentLacks, HubError, InputError, library_errors
from toolkit.core.folder import is_manifest, json_hash, read_json, sha256_file
from toolkit.core.hub_client import hub, hub_errors, locate_folder
from toolkit.core.layout import (
    CARD,
    COLUMNS,
    MANIFEST,
    REJECTED,
    SPLITS,
    card_configs,
    files_by_split,
    split_files,
)

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 10_000
NAMES = ("name_en", "name_ko")
REJECTED_COLUMNS = ("reason", "creature", "description", "language", "source", "source_ref")

MESSAGES_WANTED = (
    "Write the turns of each row into `messages`, a list of {role: user or assistant, content}; "
    "`pkt build-dataset` does with names and descriptions."
)

Row = dict[str, Any]
"""A row of any dataset, by column."""


@dataclass(frozen=True, slots=True)
class LocatedDataset:
    """A dataset whose files are on this machine.

    Attributes:
        id: Hub id, or the folder's name.
        revision: Commit on the Hub; None for a folder.
        path: Where its files are.
        config: Which of several configs, None where there is one.
    """

    id: str
    revision: str | None
    path: Path
    config: str | None = None

    def files(self) -> dict[str, list[Path]]:
        """The files of each split, `SPLITS` first, as `split_files` finds them."""
        return split_files(self.path, self.id if self.revision else str(self.path), self.config)

    def manifest(self) -> dict[str, Any]:
        """Its manifest; empty for a dataset that this toolkit did not make."""
        file = self.path / MANIFEST
        manifest: Any = read_json(file) if file.is_file() else None
        return dict(manifest) if is_manifest(manifest, "dataset") else {}

    def rows_hash(self) -> str:
        """One hash for the rows of all splits; card and figures do not count."""
        files = self.files()
        rows = [file for split in SPLITS for file in files.get(split, [])]
        return json_hash({file.relative_to(self.path).as_posix(): sha256_file(file) for file in rows})


def locate_dataset(name: str, revision: str | None = None) -> LocatedDataset:
    """Find a dataset by folder or, when there is no such folder, by Hub id, of which its rows and card are downloaded.

    A config stands behind a colon: `owner/name:config`, `folder:config`.

    Raises:
        InputError: Neither a folder nor a Hub id, or no files of rows on the Hub.
        HubError: The Hub has no such dataset or revision, or cannot be reached.
        EnvironmentLacks: The dataset is gated.
    """
    config = None
    if not Path(name).is_dir() and "//" not in name and ":" in name:
        name, _, config = name.rpartition(":")
    if Path(name).is_dir():
        return LocatedDataset(Path(name).absolute().name, None, Path(name), config)
    path = _download(name, revision, [])
    try:
        with hub_errors(f"the dataset {name}"):
            there = [file.rfilename for file in hub().dataset_info(name, revision=path.name).siblings or []]
    except (HubError, EnvironmentLacks):
        # Without the Hub, the cache may have all.
        return LocatedDataset(name, path.name, path, config)
    files = files_by_split(there, name, config, card_configs(path))
    path = _download(name, path.name, [escape(file) for of_split in files.values() for file in of_split])
    return LocatedDataset(name, path.name, path, config)


def _download(name: str, revision: str | None, files: list[str]) -> Path:
    remedy = "Make one with `pkt build-dataset`, or name a Hub id (owner/name)."
    patterns = [*files, MANIFEST, CARD]
    return locate_folder(name, "dataset", remedy, repo_type="dataset", revision=revision, patterns=patterns)


def rows_hash_of(files: Mapping[str, str]) -> str:
    """One hash for the split files among a dataset's files, given by relative path and SHA-256, as a manifest does."""
    return json_hash({name: files[name] for split in SPLITS for name in _built(files).get(split, [])})


def _built(files: Mapping[str, str]) -> dict[str, list[str]]:
    """The split files among those that a manifest names."""
    return files_by_split(files, MANIFEST) if any(name.endswith(".parquet") for name in files) else {}


def read_split(dataset: LocatedDataset, split: str) -> list[Row]:
    """All rows of a split, empty when the dataset has no such split.

    The `messages` of each are at least two turns, the last one an assistant's, of which role and content are kept.

    Raises:
        InputError: A file is damaged, is not what the dataset's manifest names or has no `messages` column, or a row
            holds another conversation. Rows are counted from 0 in their file, as `pkt validate` does in their split.
    """
    rows: list[Row] = []
    files = dataset.files().get(split, [])
    _check_as_built(dataset, split, files)
    for file in files:
        for number, row in enumerate(_read(file)):
            problem = _problem(row.get("messages"))
            if problem:
                where = f"{file.relative_to(dataset.path).as_posix()}, row {number}"
                raise InputError(f"{where}: {problem}.", "Run `pkt validate` on the dataset.")
            turns = [{"role": turn["role"], "content": turn["content"]} for turn in row["messages"]]
            rows.append(row | {"messages": turns})
    return rows


def _check_as_built(dataset: LocatedDataset, split: str, files: Sequence[Path]) -> None:
    """Raise InputError when a file of a split is lost, replaced or added by the manifest, if it names files."""
    named = dataset.manifest().get("files")
    if not isinstance(named, dict):
        return
    built = {name: named[name] for name in _built(named).get(split, [])}
    there = {file.relative_to(dataset.path).as_posix(): sha256_file(file) for file in files}
    for name in sorted(built.keys() | there.keys()):
        if built.get(name) != there.get(name):
            wrong = "is missing" if name not in there else "is not in it" if name not in built else "is another file"
            raise InputError(
                f"The dataset {dataset.id} is not as its {MANIFEST} says: {name} {wrong}.",
                f"Build or download it again; if you changed its rows on purpose, remove its {MANIFEST}.",
            )


def _read(file: Path) -> list[Row]:
    import pyarrow.parquet

    with parquet_errors(file), pyarrow.parquet.ParquetFile(parquet_of(file)) as opened:
        table = opened.read()
        if "messages" not in table.column_names:
            raise InputError(f"{file}: {no_messages(table.column_names)}.", MESSAGES_WANTED)
        return list(table.to_pylist())


def no_messages(columns: Sequence[str]) -> str:
    """What a table without a column `messages` has instead."""
    return f"no `messages`; its columns are {', '.join(columns) or 'none'}"


def parquet_of(file: Path) -> Path | pa.BufferReader:
    """A file of rows as one that pyarrow reads as Parquet: itself, or JSON (lines, or a list) written as such.

    Raises:
        InputError: JSON of another form.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if file.suffix.lower() == ".parquet":
        return file
    opened = gzip.open if file.suffix.lower() == ".gz" else open
    with opened(file, "rt", encoding="utf-8-sig") as text:
        rows = _json_rows(text.read())
    if not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{file} holds something else than rows.", "Write one object a line, or a list of objects.")
    columns = {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}
    for name in columns.keys() - {"messages"}:
        # Values of other columns may have any types, and several.
        texts = (value if isinstance(value, str | None) else json.dumps(value) for value in columns[name])
        columns[name] = pa.array(texts, pa.string())
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return pa.BufferReader(sink.getvalue())


def _json_rows(content: str) -> list[Any]:
    """Rows of one object a line, of a list, or of an object with one list; raises ValueError where it is no JSON."""
    try:
        value = json.loads(content)
    except ValueError:
        lines = filter(str.strip, content.split("\n"))
        value = json.loads("[" + ",\n".join(lines) + "]")
    if isinstance(value, list):
        return value
    lists = [held for held in value.values() if isinstance(held, list)] if isinstance(value, dict) else []
    return lists[0] if len(lists) == 1 and "messages" not in value else [value]


def parquet_errors(file: Path) -> AbstractContextManager[None]:
    """Translate what goes wrong while a dataset's file is read."""
    kind = "Parquet file" if file.suffix.lower() == ".parquet" else "table of JSON"
    return library_errors(f"{file} is not a readable {kind}", "Build or download the dataset again.")


def _problem(messages: object) -> str | None:
    """Why nothing can be learnt from these turns, or None."""
    if not isinstance(messages, list):
        return "`messages` is not a list of turns"
    for number, turn in enumerate(messages):
        known = turn if isinstance(turn, dict) else {}
        if wrong := [key for key in ("role", "content") if not isinstance(known.get(key), str)]:
            return f"turn {number} of `messages` has no text as `{wrong[0]}`"
    if len(messages) < 2:
        return "`messages` is not at least two turns, a question and its answer"
    if messages[-1]["role"] != "assistant":
        return f"the last turn is of the role {messages[-1]['role']!r}, not 'assistant'"
    return None


def shared_opening(rows: list[Row]) -> dict[str, Any]:
    """How the conversations of a dataset begin, so that a model trained on it can be asked in the same way.

    Returns:
        `system`: the system turn that all rows share, or None. `request`: the most frequent first paragraph of the
        first user turn, None where most rows have one of their own. `request_variants`: how many requests there are.
    """
    systems = Counter(row["messages"][0]["content"] if row["messages"][0]["role"] == "system" else None for row in rows)
    first = Counter(
        turn["content"].split("\n\n")[0]
        for row in rows
        if (turn := next((turn for turn in row["messages"] if turn["role"] == "user"), None))
    )
    shared = len(first) == 1 or 0 < 2 * len(first) <= len(rows)
    return {
        "system": next(iter(systems)) if len(systems) == 1 else None,
        "request": first.most_common(1)[0][0] if shared else None,
        "request_variants": len(first) if shared else 0,
    }


def count_rows(dataset: LocatedDataset, split: str) -> int:
    """Rows of a split, read from the files' footers.

    Raises:
        InputError: A file is damaged.
    """
    import pyarrow.parquet

    count = 0
    for file in dataset.files().get(split, []):
        with parquet_errors(file):
            count += pyarrow.parquet.read_metadata(parquet_of(file)).num_rows
    return count


def answer_of(row: Row) -> str:
    """The answer of a row: what its last turn says."""
    return str(row["messages"][-1]["content"]).strip()


def names_of(rows: Sequence[Row]) -> list[str]:
    """All names in some rows, sorted: the answers, and the names of each creature in either language."""
    named = (row.get(column) for row in rows for column in NAMES)
    return sorted({name for name in named if isinstance(name, str) and name}.union(map(answer_of, rows)))


def description_of(row: Row) -> str:
    """The description of a row: its column, or else the last question without its first paragraph, the request.

    A question of one paragraph is the description itself.
    """
    question = row["messages"][-2]["content"]
    return str(row.get("description") or question.partition("\n\n")[2] or question)


def dataset_table(columns: Mapping[str, Any]) -> pa.Table:
    """Columns of texts, and of turns in `messages`, as a table with all of `COLUMNS`."""
    import pyarrow as pa

    text = pa.string()
    messages = pa.list_(pa.struct([("role", text), ("content", text)]))
    schema = pa.schema([(name, messages if name == "messages" else text) for name in COLUMNS])
    return pa.table({name: columns[name] for name in COLUMNS}, schema)


def write_split(folder: Path, split: str, tables: Iterable[pa.Table]) -> None:
    """Write tables with all of `COLUMNS` as the one file of a split."""
    path = folder / "data" / f"{split}-00000-of-00001.parquet"
    path.parent.mkdir(exist_ok=True)
    _write(path, tables)


def write_rejected(folder: Path, batches: Iterable[Mapping[str, Any]]) -> None:
    """Write what was dropped, with its reason: columns with all of `REJECTED_COLUMNS`."""
    import pyarrow as pa

    schema = pa.schema([(name, pa.string()) for name in REJECTED_COLUMNS])
    _write(folder / REJECTED, (pa.table({name: batch[name] for name in REJECTED_COLUMNS}, schema) for batch in batches))


def _write(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write each table as a row group; there is one at least."""
    import pyarrow.parquet as pq

    left = iter(tables)
    first = next(left)
    with pq.ParquetWriter(path, first.schema, compression="zstd") as writer:
        for table in chain([first], left):
            writer.write_table(table)
