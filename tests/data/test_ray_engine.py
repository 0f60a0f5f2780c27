"""The rows, bytes and reports of Ray are those of the local engine, whatever happens to its workers."""

from __future__ import annotations

import json
import os
import signal
from operator import methodcaller

import numpy as np
import pyarrow as pa
import pytest

from support.datasets import build, creatures, from_table, table
from support.validation import codes, write
from toolkit.core.errors import InputError
from toolkit.core.folder import file_hashes
from toolkit.core.layout import VALIDATION
from toolkit.data.batches import LocalEngine
from toolkit.data.ray_engine import RayEngine
from toolkit.data.validation import validate

pytestmark = pytest.mark.usefixtures("ray_cluster")

ROWS = 2_300
NUMBERS = np.random.default_rng(3).integers(0, 1_000, ROWS)
AS_IT_IS = methodcaller("combine_chunks")


def batches(size=400):
    rows = pa.table({"number": NUMBERS, "text": [f"text {number}" for number in NUMBERS]})
    # The last of them has no row.
    return (rows.slice(start, size) for start in range(0, ROWS + size, size))


@pytest.mark.parametrize("size", [7, 100, ROWS])
def test_rows_are_kept_worked_on_and_put_in_order_as_by_the_local_engine(size, monkeypatch):
    monkeypatch.setattr("toolkit.data.ray_engine.PART_ROWS", 500)

    # Within a test, as workers cannot import test files.
    def function(rows):
        texts = [f"{text}s" for text in rows["text"].to_pylist()]
        return pa.table({"twice": np.asarray(rows["number"]) * 2, "text": texts})

    places = np.random.default_rng(4).permutation(ROWS)[:2_000]
    results, done = [], []
    for engine in (LocalEngine(), RayEngine()):
        rows = engine.map(function, engine.load(AS_IT_IS, batches()), ["number", "text"], done.append)
        streamed = pa.concat_tables(engine.stream(function, rows, ["number", "text"], done.append))
        taken = list(engine.take(rows, ["text", "twice"], places, size))
        assert [len(table) for table in taken[:-1]] == [size] * (len(taken) - 1)
        results.append((engine.collect(rows, ["twice", "number"]), streamed, pa.concat_tables(taken)))
    assert results[0] == results[1]
    assert done[-1] == ROWS


def test_a_worker_that_is_killed_loses_no_row_and_doubles_none(tmp_path):
    def doubled_at_the_second_try(rows):
        if 7 in rows["number"].to_pylist():
            try:
                (tmp_path / "killed").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass
        return rows.select(["number"])

    engine = RayEngine()
    rows = engine.map(doubled_at_the_second_try, engine.load(AS_IT_IS, batches()), ["number"])
    assert (tmp_path / "killed").exists()
    assert engine.collect(rows, ["number"])["number"].to_pylist() == NUMBERS.tolist()


def test_what_a_task_raises_is_raised_here():
    def refuse(rows):
        raise InputError("Row 3 is damaged.", "Mend it.")

    engine = RayEngine()
    with pytest.raises(InputError, match=r"^Row 3 is damaged\. Mend it\.$"):
        list(engine.stream(refuse, engine.load(AS_IT_IS, batches()), ["number"]))


def test_a_dataset_has_the_same_bytes_whichever_engine_builds_it(tmp_path, monkeypatch):
    monkeypatch.setattr("toolkit.data.cleaning.BATCH_ROWS", 50)
    rows = creatures(count=30)
    # Near duplicates, the same text twice, names of others, an own name that is nearly there, and what is dropped.
    rows += [row | {"description": f"Nearly: {row['description']}"} for row in rows[::9]]
    rows += [
        row | {"description": f"It hunts {rows[0]['name']} at night in {number}."} for number, row in enumerate(rows)
    ]
    rows += [*rows[:5], {"name": "Beastzz", "family": "z", "description": "x"}]
    location = from_table(table(tmp_path, rows))
    for engine in ("local", "ray"):
        built = build(tmp_path / engine, location, engine=engine)
    assert set(built.dropped) >= {"duplicate", "too-short"}
    assert file_hashes(tmp_path / "local") == file_hashes(tmp_path / "ray")
    reports = [json.loads((tmp_path / engine / VALIDATION).read_bytes()) for engine in ("local", "ray")]
    assert reports[0] == reports[1]


def test_a_dataset_has_the_same_faults_whichever_engine_looks(tmp_path):
    def row(question, answer):
        return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}

    rows = [row(f"{text} It has {count} tails.", "Vulpix") for text in ("A fox", "A turtle") for count in range(9)]
    rows += [rows[0], row("", "Ditto"), {"messages": None}, row("It is called Mew.", "Mew")]
    write(tmp_path, {"train": rows, "test": rows[:1]})
    reports = [validate(tmp_path, engine=engine) for engine in ("local", "ray")]
    assert codes(reports[0]) >= {"dup.exact", "dup.near-within", "schema.null", "leak.own-name"}
    assert reports[0] == reports[1]
