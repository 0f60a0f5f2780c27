"""Datasets as rows: find one by folder or Hub id, read a split. Knows nothing of models."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from toolkit.endpoint import hub, hub_errors
from toolkit.errors import InputError
from toolkit.folder import MANIFEST, json_hash, read_json, sha256_file

LAYOUTS = ("data/{split}-*.parquet", "{split}-*.parquet", "{split}.parquet")
SPLITS = ("train", "validation", "test", "unseen")
# Beside the splits, what a build dropped.
REJECTED = "rejected.parquet"


@dataclass(frozen=True, slots=True)
class LocatedDataset:
    """A dataset whose files are on this machine.

    Attributes:
        id: Hub id, or the folder's name.
        revision: Commit on the Hub; None for a folder.
        path: Where its files are.
    """

    id: str
    revision: str | None
    path: Path

    def manifest(self) -> dict[str, Any]:
        """Its manifest; empty for a dataset that this toolkit did not make."""
        file = self.path / MANIFEST
        return dict(read_json(file)) if file.is_file() else {}

    def content(self) -> str:
        """One hash for the rows of all splits; card and figures do not count."""
        files = [file for split in SPLITS for file in split_files(self.path, split)]
        return data_hash({file.relative_to(self.path).as_posix(): sha256_file(file) for file in files})


def locate_dataset(name: str, revision: str | None = None) -> LocatedDataset:
    """Find a dataset by folder or, when there is no such folder, by Hub id; the latter is downloaded.

    Raises:
        InputError: Neither a folder nor a Hub id.
        HubError: The Hub has no such dataset or revision, or can not be reached.
    """
    path = Path(name)
    if path.is_dir():
        return LocatedDataset(path.absolute().name, None, path)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise InputError(
            f"There is no dataset folder {name}.", "Make one with `pkt build-dataset`, or name a Hub id (owner/name)."
        )
    with hub_errors(f"The dataset {name}"):
        snapshot = Path(
            hub().snapshot_download(
                name, repo_type="dataset", revision=revision, allow_patterns=["*.parquet", MANIFEST, "README.md"]
            )
        )
    return LocatedDataset(name, snapshot.name, snapshot)


def split_files(path: Path, split: str) -> list[Path]:
    """The Parquet files of a split, in order, in the layouts that the Hub recognises."""
    return sorted({file for pattern in LAYOUTS for file in path.glob(pattern.format(split=split))})


def data_hash(files: dict[str, str]) -> str:
    """One hash for the split files among a dataset's files, given by relative path and SHA-256."""
    patterns = [pattern.format(split=split) for pattern in LAYOUTS for split in SPLITS]
    return json_hash(
        {name: digest for name, digest in files.items() if any(fnmatch(name, pattern) for pattern in patterns)}
    )


def read_split(dataset: LocatedDataset, split: str) -> list[dict[str, Any]]:
    """All rows of a split, empty when the dataset has no such split.

    Raises:
        InputError: A file is damaged, or has no `messages` column.
    """
    import pyarrow
    import pyarrow.parquet

    rows: list[dict[str, Any]] = []
    for file in split_files(dataset.path, split):
        try:
            table = pyarrow.parquet.read_table(file)
        except (pyarrow.ArrowException, OSError) as error:
            raise InputError(
                f"{file} is not a readable Parquet file.", "Build or download the dataset again."
            ) from error
        if "messages" not in table.column_names:
            raise InputError(f"{file} has no column 'messages'.", "Run `pkt validate` on the dataset.")
        rows += table.to_pylist()
    return rows


def shared_request(rows: list[dict[str, Any]]) -> str | None:
    """The request that all rows share: the first paragraph of their first user turn, or None when they differ."""
    first = {row["messages"][0]["content"].split("\n\n")[0] for row in rows if row["messages"][0]["role"] == "user"}
    return first.pop() if len(first) == 1 else None


def count_rows(dataset: LocatedDataset, split: str) -> int:
    """Rows of a split, read from the files' footers."""
    import pyarrow.parquet

    return sum(pyarrow.parquet.read_metadata(file).num_rows for file in split_files(dataset.path, split))


def answer_of(row: dict[str, Any]) -> str:
    """The answer of a row: what its last turn says."""
    return str(row["messages"][-1]["content"]).strip()
