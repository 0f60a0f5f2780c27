"""Any file at all gives records or one error, and no row is lost. `PKT_FUZZ_EXAMPLES=10000` looks harder."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from support.sources import read
from toolkit.core.errors import InputError
from toolkit.data.sources.records import NOTHING, is_number

EXAMPLES = int(os.environ.get("PKT_FUZZ_EXAMPLES", "150"))
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=EXAMPLES <= 150,
    suppress_health_check=[*HealthCheck],
)

TEXT_KINDS = (".csv", ".tsv", ".jsonl", ".json")
KINDS = (*TEXT_KINDS, *(f"{kind}.gz" for kind in TEXT_KINDS), ".parquet")
ENCODINGS = (None, "utf-8", "utf-16", "utf-16-le", "cp949", "cp1252", "shift_jis")

plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
hostile = st.one_of(
    plain, st.sampled_from(["", "\0", '"', "'", "\r", "\r\n", "\u2028", "\x85", "\x1a", "\ufeff", ",;|\t"])
)
rows_of_text = st.lists(st.tuples(hostile, hostile), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def encoded(rows: list[tuple[str, str]], kind: str, encoding: str = "utf-8") -> bytes:
    named = [{"name": name, "description": text} for name, text in rows]
    if kind == ".parquet":
        stream = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(named), stream, write_page_checksum=True)
        return stream.getvalue()
    if kind.startswith(".json."):
        text = json.dumps(named)
    elif kind.startswith(".json"):
        text = json.dumps(named) if kind == ".json" else "".join(f"{json.dumps(row)}\n" for row in named)
    else:
        written = io.StringIO(newline="")
        writer = csv.writer(written, delimiter="\t" if kind.startswith(".tsv") else ",", quoting=csv.QUOTE_ALL)
        writer.writerows([("name", "description"), *rows])
        text = written.getvalue()
    body = text.encode(encoding)
    return gzip.compress(body, mtime=0) if kind.endswith(".gz") else body


def records_or_error(folder: Path, kind: str, body: bytes, encoding: str | None = None) -> int | None:
    """How many records there are; None for an error."""
    path = folder / f"t{kind}"
    path.write_bytes(body)
    try:
        records, _ = read("table", location=str(path), encoding=encoding)
    except InputError:
        return None
    for record in records:
        json.dumps([record.key, record.family, dict(record.names), record.description], ensure_ascii=False).encode()
    return len(records)


@FUZZ
@given(kind=st.sampled_from(KINDS), body=st.binary(max_size=400), encoding=st.sampled_from(ENCODINGS))
def test_any_bytes_give_records_or_an_input_error(folder: Path, kind: str, body: bytes, encoding: str | None) -> None:
    records_or_error(folder, kind, body, encoding if kind != ".parquet" else None)
    header = {".csv": b"name,description\n", ".tsv": b"name\tdescription\n"}.get(kind, b'{"name":"","description":"')
    records_or_error(folder, kind, header + body, encoding)


@FUZZ
@given(kind=st.sampled_from(KINDS), rows=rows_of_text, encoding=st.sampled_from(["utf-8", "utf-16", "utf-16-le"]))
def test_every_row_that_was_written_is_a_record_with_its_text(
    folder: Path, kind: str, rows: list[tuple[str, str]], encoding: str
) -> None:
    names = [name.strip() if name.strip() not in NOTHING else "" for name, _ in rows]
    assume(not all(is_number(name) for name in names if name) or not any(names))
    path = folder / f"t{kind}"
    path.write_bytes(encoded(rows, kind, encoding))
    records, _ = read("table", location=str(path), encoding=encoding if encoding == "utf-16-le" else None)
    assert [record.description for record in records] == [text for _, text in rows]
    assert [next(iter(record.names.values()), "") for record in records] == names
