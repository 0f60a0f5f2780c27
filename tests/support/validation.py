"""What tests share: datasets to validate, and what is in a report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.data.validation.findings import Finding, Report

Row = dict[str, Any]
Splits = dict[str, list[Row]]


def write(folder: Path, splits: Mapping[str, Sequence[Row]]) -> Path:
    """A dataset folder of these rows, with every column of any row of a split."""
    (folder / "data").mkdir(exist_ok=True)
    for split, rows in splits.items():
        names = dict.fromkeys(name for row in rows for name in row)
        table = pa.Table.from_pylist([dict.fromkeys(names) | row for row in rows])
        pq.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


def codes(report: Report) -> set[str]:
    return {found.code for found in report.findings}


def finding(report: Report, code: str) -> Finding:
    return next(found for found in report.findings if found.code == code)


def skipped(report: Report) -> dict[str, str]:
    """Why, by code."""
    return {check.code: check.reason for check in report.skipped}
