"""Rows of a Parquet file, the columns that are used. Knows nothing of what they mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from toolkit.core.errors import InputError

BATCH_ROWS = 4096


def parquet_columns(path: Path) -> list[str]:
    """The names of a file's columns.

    Raises:
        InputError: It is not Parquet, or has two columns of one name.
    """
    import pyarrow.parquet

    with _parquet_errors(path):
        names = list(pyarrow.parquet.read_schema(path).names)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"{path} has the column {repeated[0]!r} twice.", "Rename one of them.")
    return names


def parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Every row with its number, from 1.

    Raises:
        InputError: The file is damaged.
    """
    import pyarrow.parquet

    number = 0
    with _parquet_errors(path), pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
            for row in batch.to_pylist():
                number += 1
                yield number, row
        if number != file.metadata.num_rows:
            raise InputError(
                f"{path} says that it has {file.metadata.num_rows} rows, and has {number}.", "Get the file again."
            )


@contextmanager
def _parquet_errors(path: Path) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, OverflowError, LookupError) as error:
        raise InputError(
            f"{path} is not a readable Parquet file: it is damaged or cut short.", "Get the file again."
        ) from error
