"""`pkt` alone: the road, where the current folder is on it, and the next command."""

import json
import os
import re
import sys

import pytest
from click.testing import CliRunner

from toolkit import cli
from toolkit.cli import road
from toolkit.core.folder import write_manifest
from toolkit.data.dataset import rows_hash_of

ROWS = {"data/train-00000-of-00001.parquet": b"rows"}


def dataset(folder, ok=True):
    for name, content in ROWS.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(content)
    write_manifest(folder, "dataset", {"splits": {"train": 900, "test": 106}})
    (folder / "validation.json").write_text(json.dumps({"ok": ok}))
    return rows_hash_of(json.loads((folder / "manifest.json").read_text())["files"])


def adapter(folder, rows, top1=None, **facts):
    folder.mkdir()
    if top1 is not None:
        methods = {"adapter": {"top1": {"value": top1}}}
        (folder / "evaluation.json").write_text(json.dumps({"test": {"methods": methods}}))
    write_manifest(folder, "adapter", {"dataset": {"content": rows}, **facts})


def pkt(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(road, "program", lambda: "pkt")
    result = CliRunner().invoke(cli.main, [], terminal_width=80)
    assert (result.exit_code, result.stdout) == (2, "")
    assert max(len(line) for line in result.stderr.split("\n")) <= 80
    return result.stderr


def following(text):
    """The next command."""
    return re.search(r"Next:\n  (.*)\n", text)[1]


def marks(text):
    return [line[2:6].strip() for line in text.split("\n")[1:5]]


def test_an_empty_folder_says_where_to_start(tmp_path, monkeypatch):
    shown = pkt(tmp_path, monkeypatch)
    assert "pkt run demo demo" in shown
    assert "Next:" not in shown
    assert marks(shown) == [""] * 4


def test_each_step_names_the_one_after_it(tmp_path, monkeypatch):
    rows = dataset(tmp_path / "my data")
    shown = pkt(tmp_path, monkeypatch)
    assert "  my data  dataset, 1,006 rows, valid\n" in shown
    assert (marks(shown), following(shown)) == (["done", "next", "", ""], "pkt train 'my data' adapter")
    assert following(pkt(tmp_path / "my data", monkeypatch)) == "pkt train . ../adapter"
    adapter(tmp_path / "a", rows)
    shown = pkt(tmp_path, monkeypatch)
    assert "adapter, not evaluated yet" in shown
    assert (marks(shown), following(shown)) == (["done", "done", "next", ""], "pkt evaluate a 'my data'")
    adapter(tmp_path / "b", "other rows", top1=0.5)
    os.utime(tmp_path / "a" / "manifest.json", (1, 1))
    shown = pkt(tmp_path, monkeypatch)
    assert "adapter, top-1 of test 50.0%" in shown
    assert (marks(shown), following(shown)) == (
        ["done", "done", "done", "next"],
        "pkt publish b YOUR-NAME/YOUR-ADAPTER",
    )


def test_a_dataset_is_named_as_it_is_whatever_its_name(tmp_path, monkeypatch):
    rows = dataset(tmp_path / "MY_DATASET")
    assert following(pkt(tmp_path, monkeypatch)) == "pkt train MY_DATASET adapter"
    adapter(tmp_path / "a", rows)
    assert following(pkt(tmp_path, monkeypatch)) == "pkt evaluate a MY_DATASET"
    adapter(tmp_path / "b", "rows that are not here")
    os.utime(tmp_path / "a" / "manifest.json", (1, 1))
    assert following(pkt(tmp_path, monkeypatch)) == "pkt evaluate b DATASET"


def test_at_the_end_of_the_road_the_adapter_is_asked(tmp_path, monkeypatch):
    adapter(tmp_path / "a", dataset(tmp_path / "data"), top1=0.5, repo_id="me/names")
    shown = pkt(tmp_path, monkeypatch)
    assert "published as me/names" in shown
    assert (marks(shown), following(shown)[:9]) == (["done"] * 4, "pkt name ")
    assert following(pkt(tmp_path / "a", monkeypatch)).endswith(" --adapter .")


def test_a_dataset_that_fails_is_checked_before_anything_is_trained_on_it(tmp_path, monkeypatch):
    dataset(tmp_path / "data", ok=False)
    shown = pkt(tmp_path, monkeypatch)
    assert "does not pass validation" in shown
    assert following(shown) == "pkt validate data"


def test_an_unfinished_training_is_continued_first(tmp_path, monkeypatch):
    dataset(tmp_path / "data")
    checkpoints = tmp_path / "a-checkpoints"
    (checkpoints / "checkpoint-150").mkdir(parents=True)
    (checkpoints / "checkpoint.json").write_text("{}")
    assert "`pkt train` that began a-checkpoints, again: it continues at step 150" in pkt(tmp_path, monkeypatch)


def test_runs_sweeps_and_hubs_are_known(tmp_path, monkeypatch):
    for name, file, content in (
        ("run", "pipeline.json", {"Dataset": {}, "Training": {}}),
        ("sweep", "sweep.json", {"runs": {"a": None, "b": None}}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(json.dumps(content))
    (tmp_path / "hub" / "models").mkdir(parents=True)
    (tmp_path / "hub" / "servers").touch()
    shown = pkt(tmp_path, monkeypatch)
    assert "run: dataset, training done" in shown
    assert "sweep of 2 runs" in shown
    assert "local Hub" in shown
    assert following(shown) == "the `pkt run` that began run, again"


@pytest.mark.parametrize(
    "content", ["{", '{"toolkit": "0.7.0", "kind": "dataset"}', '{"toolkit": "0.7.0", "kind": ["adapter"]}', "\0"]
)
def test_a_broken_manifest_is_one_word(content, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "manifest.json").write_text(content)
    shown = pkt(tmp_path, monkeypatch)
    assert "  data  unreadable\nStart here:\n" in shown


@pytest.mark.parametrize("file", ["sweep.json", "pipeline.json", "checkpoint.json"])
def test_a_file_of_another_form_is_no_error(file, tmp_path, monkeypatch):
    (tmp_path / file).write_text("[1]")
    pkt(tmp_path, monkeypatch)


def test_what_others_wrote_is_left_out(tmp_path, monkeypatch):
    for number, content in enumerate(('{"name": "web app"}', "[]", "null")):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "manifest.json").write_text(content)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "pipeline.json").write_text('{"stages": []}')
    assert "Nothing of pkt is in this folder" in pkt(tmp_path, monkeypatch)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may enter every folder")
def test_a_folder_that_cannot_be_entered_is_one_word(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir(mode=0)
    assert "  closed  unreadable\n" in pkt(tmp_path, monkeypatch)


def test_nothing_heavy_is_imported(tmp_path):
    import subprocess

    dataset(tmp_path / "data")
    code = (
        "import sys; from toolkit.cli import road; print(*road.shown(__import__('pathlib').Path()), file=sys.stderr);"
    )
    code += "print(*({'torch', 'transformers', 'pyarrow', 'pydantic', 'rich'} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout == "\n"
    assert "1,006 rows" in result.stderr
