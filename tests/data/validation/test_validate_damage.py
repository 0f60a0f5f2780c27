"""Any folder of Parquet is validated: whatever is in a file, there is a report, and what could not be read is in it.

`PKT_FUZZ_EXAMPLES=10000 pytest tests/test_validate_damage.py` tries more of each.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit.data.validation.findings import CODES, Report
from toolkit.data.validation.folder import check_folder
from toolkit.data.validation.shards import TEXT_COLUMNS

EXAMPLES = int(os.environ.get("PKT_FUZZ_EXAMPLES", "100"))
FUZZ = settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))

NASTY = (
    "",
    " \n",
    "\x00",
    "a\u202eb",
    "e\u0301",
    "\ufffd",
    "PokÃ©mon",
    "<end_of_turn>",
    "이상해씨",
    "[",
    "🔥",
    "Mewtwo\n" * 99,
)
# A megabyte in one cell, seldom: each costs some time.
TEXT = st.one_of(st.sampled_from((*NASTY * 8, "x y " * 250_000)), st.text(max_size=30))
CELL = st.none() | TEXT
BYTES = st.none() | st.binary(max_size=12) | st.just(b"\xed\xa0\x80")
ROLE = st.sampled_from(("user", "assistant", "system", "tool", None, ""))
TURN = st.none() | st.fixed_dictionaries({"role": ROLE, "content": CELL})
SOUND = st.builds(
    lambda question, answer: [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
    TEXT,
    TEXT,
)
MESSAGES = st.none() | SOUND | st.lists(TURN, max_size=4)
TURN_FIELDS = (pa.field("role", pa.string()), pa.field("content", pa.string()))
TURN_TYPES = (
    pa.struct(TURN_FIELDS),
    pa.struct([pa.field("weight", pa.int64()), *reversed(TURN_FIELDS), pa.field("tool", pa.list_(pa.string()))]),
    pa.struct([("role", pa.large_string()), ("content", pa.large_string())]),
    pa.struct([("role", pa.dictionary(pa.int8(), pa.string())), ("content", pa.string_view())]),
)
LISTS = (pa.list_, pa.large_list, pa.list_view)
NAMES = (*TEXT_COLUMNS, "name_ja", "messages.role", "id.x", "messages", "\x00")
WRONG: tuple[tuple[Any, Any], ...] = (
    (pa.int64(), st.none() | st.integers(-(2**63), 2**63 - 1)),
    (pa.float64(), st.none() | st.floats()),
    (pa.bool_(), st.none() | st.booleans()),
    (pa.binary(), BYTES),
    (pa.list_(pa.string()), st.none() | st.lists(CELL, max_size=3)),
    (pa.struct([("a", pa.int8())]), st.none() | st.just({"a": 1})),
    (pa.timestamp("us"), st.none() | st.just(0)),
    (pa.null(), st.none()),
)


@st.composite
def columns(draw: st.DrawFn, rows: int) -> pa.Array:
    """A column of texts in any of Arrow's ways to hold them, or of something else."""
    form = draw(st.sampled_from(("string", "large", "view", "dictionary", "bytes", "wrong")))
    if form == "bytes":
        values = draw(st.lists(BYTES, min_size=rows, max_size=rows))
        return pa.array(values, pa.binary()).cast(pa.string(), safe=False)
    if form == "wrong":
        kind, cells = draw(st.sampled_from(WRONG))
        return pa.array(draw(st.lists(cells, min_size=rows, max_size=rows)), kind)
    array = pa.array(draw(st.lists(CELL, min_size=rows, max_size=rows)), pa.string())
    if form == "dictionary":
        return array.dictionary_encode()
    return array.cast({"string": pa.string(), "large": pa.large_string(), "view": pa.string_view()}[form])


@st.composite
def message_columns(draw: st.DrawFn, rows: int) -> pa.Array:
    """A column of conversations, seldom of something else."""
    if draw(st.integers(0, 9)) == 0:
        return draw(columns(rows))
    plain = pa.array(draw(st.lists(MESSAGES, min_size=rows, max_size=rows)), pa.list_(TURN_TYPES[0]))
    kind = draw(st.sampled_from(LISTS))(draw(st.sampled_from(TURN_TYPES)))
    if pa.types.is_string_view(kind.value_type.field("content").type):
        return plain
    return pa.array(plain.to_pylist(), kind)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """A table with a column `messages`, and others that checks read."""
    rows = draw(st.integers(0, 6))
    names = draw(st.lists(st.sampled_from(NAMES), max_size=5))
    arrays = [draw(message_columns(rows)), *(draw(columns(rows)) for _ in names)]
    return pa.Table.from_arrays(arrays, names=["messages", *names])


@st.composite
def files(draw: st.DrawFn) -> tuple[pa.Table, bytes]:
    """A table and its bytes as Parquet, written in any way."""
    table = draw(tables())
    stream = io.BytesIO()
    pq.write_table(
        table,
        stream,
        row_group_size=draw(st.sampled_from((1, 2, 100))),
        compression=draw(st.sampled_from(("none", "zstd", "snappy"))),
        use_dictionary=draw(st.booleans()),
        store_schema=draw(st.booleans()),
    )
    return table, stream.getvalue()


def report_of(splits: dict[str, bytes]) -> Report:
    """The report on a folder of these files: of known codes, and such that JSON and UTF-8 can hold it."""
    with tempfile.TemporaryDirectory() as folder:
        for split, body in splits.items():
            (Path(folder) / f"{split}.parquet").write_bytes(body)
        report = check_folder(Path(folder))
    json.dumps(report.to_json(), ensure_ascii=False, allow_nan=False).encode()
    assert {found.code for found in report.findings} <= set(CODES)
    assert all(found.count >= len(found.places) > 0 for found in report.findings)
    return report


@FUZZ
@given(files(), files())
def test_every_row_of_a_table_of_any_kind_is_counted_or_its_file_is_found(
    train: tuple[pa.Table, bytes], test: tuple[pa.Table, bytes]
) -> None:
    report = report_of({"train": train[1], "test": test[1]})
    unread = {place.split for found in report.findings if found.code == "schema.messages" for place in found.places}
    assert not any(found.code == "schema.file" for found in report.findings)
    for split, table in (("train", train[0]), ("test", test[0])):
        assert (split in report.rows) != (split in unread)
        assert split in unread or report.rows[split] == len(table)


@st.composite
def damaged(draw: st.DrawFn) -> tuple[pa.Table, bytes]:
    """A file some bytes of which are others, cut short, or put in."""
    table, whole = draw(files())
    body = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(body)))
        noise = draw(st.binary(min_size=1, max_size=8))
        kind = draw(st.sampled_from(("change", "insert", "cut")))
        if kind == "change":
            body[place : place + len(noise)] = noise
        elif kind == "insert":
            body[place:place] = noise
        else:
            del body[place:]
    return table, bytes(body)


@FUZZ
@given(damaged(), files())
def test_a_damaged_file_ends_in_a_report_and_spoils_no_other(
    train: tuple[pa.Table, bytes], test: tuple[pa.Table, bytes]
) -> None:
    report = report_of({"train": train[1], "test": test[1]})
    assert "test" in report.rows or any(found.code == "schema.messages" for found in report.findings)
    assert report.rows.get("test", len(test[0])) == len(test[0])
    assert report.rows.get("train", -1) == len(train[0]) or report.findings
