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
from toolkit.core.errors import InputError
from toolkit.core.folder import file_hashes
from toolkit.core.layout import VALIDATION
from toolkit.data.batches import LocalEngine
from toolkit.data.ray_engine import RayEngine, open_engine

pytestmark = pytest.mark.usefixtures("ray_cluster")

ROWS = 2_300
NUMBERS = np.random.default_rng(3).integers(0, 1_000, ROWS)


AS_IT_IS = methodcaller("combine_chunks")


def batches(size=400):
    rows = pa.table({"number": NUMBERS, "text": [f"text {number}" for number in NUMBERS]})
    return (rows.slice(start, size) for start in range(0, ROWS, size))


@pytest.mark.parametrize("size", [7, 100, ROWS])
def test_rows_are_kept_worked_on_and_put_in_order_as_by_the_local_engine(size, monkeypatch):
    monkeypatch.setattr("toolkit.data.ray_engine.PART_ROWS", 500)

    # Within a test, as workers cannot import test files.
    def function(rows):
        return pa.table({"twice": np.asarray(rows["number"]) * 2, "number": np.asarray(rows["number"]) + 1})

    places = np.random.default_rng(4).permutation(ROWS)[:2_000]
    results, done = [], []
    for engine in (LocalEngine(), RayEngine()):
        rows = engine.map(function, engine.load(AS_IT_IS, batches()), ["number"], done.append)
        streamed = pa.concat_tables(engine.stream(function, rows, ["number"], done.append))
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
    for name in ("local", "ray"):
        with open_engine(name) as engine:
            built = build(tmp_path / name, location, engine=engine)
    assert set(built.dropped) >= {"duplicate", "too-short"}
    assert file_hashes(tmp_path / "local") == file_hashes(tmp_path / "ray")
    reports = [json.loads((tmp_path / name / VALIDATION).read_bytes()) for name in ("local", "ray")]
    assert reports[0] == reports[1]
