"""Batches: several processes give what one gives, one that is killed is said in one line, and so is their end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from support.datasets import build, creatures, from_table, table
from toolkit.core.errors import EnvironmentLacks
from toolkit.core.folder import file_hashes
from toolkit.data import batches
from toolkit.data.batches import LocalEngine, run_batches

TENS = [range(start, start + 10) for start in range(0, 90, 10)]


def _process(_: range) -> int:
    return os.getpid()


def _kill(rows: range) -> int:
    if rows.start == 30:
        os.kill(os.getpid(), signal.SIGKILL)
    return len(rows)


def _double(rows: pa.Table) -> pa.Table:
    return pa.table({"number": [2 * number for number in rows["number"].to_pylist()]})


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "FEWEST_FOR_PROCESSES", 1)
    monkeypatch.setattr(batches, "BATCH_ROWS", 50)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)


def test_few_rows_start_no_process() -> None:
    assert set(run_batches(_process, [range(49_000), range(999)])) == {os.getpid()}


@pytest.mark.usefixtures("processes")
def test_many_rows_are_worked_on_in_other_processes_and_come_in_order() -> None:
    assert os.getpid() not in set(run_batches(_process, TENS))
    rows = pa.table({"number": range(220)})
    assert LocalEngine().map(_double, rows, ["number"])["number"].to_pylist() == list(range(0, 440, 2))


@pytest.mark.usefixtures("processes")
def test_a_killed_process_is_one_line() -> None:
    with pytest.raises(EnvironmentLacks, match="was killed"):
        list(run_batches(_kill, TENS))


def test_several_processes_build_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    rows = creatures(30)
    rows += [row | {"description": f"{row['description']} Yes."} for row in rows[::3]]
    settings = from_table(table(tmp_path, [*rows, *rows[:9]]))
    one = build(tmp_path / "one", settings).path
    request.getfixturevalue("processes")
    several = build(tmp_path / "several", settings).path
    assert file_hashes(one) == file_hashes(several)


SCRIPT = """
import sys
from toolkit.data import batches
from toolkit.data.build import build_dataset
from toolkit.core.recipe import DatasetSettings, SourceSettings, load_recipe
batches.FEWEST_FOR_PROCESSES = 1
source = SourceSettings(name="table", location=sys.argv[1])
recipe = load_recipe("demo").model_copy(update={"dataset": DatasetSettings(sources=[source])})
print(build_dataset(sys.argv[2], recipe).read)
"""


def test_a_script_that_guards_nothing_builds_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), table(tmp_path, creatures(30)), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "180\n"
