"""The notebook for Colab: its cells run in order, as far as a machine without a GPU takes them."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from support.paths import ROOT
from toolkit.cli import main

NOTEBOOK = json.loads((ROOT / "notebooks/pokepicker_colab.ipynb").read_text(encoding="utf-8"))
CODE = {cell["id"]: "".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"}
# `!`, `%pip` and `%%bash` mean what they mean in Colab, and the first cell that fails ends it.
RUN = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for source in json.load(sys.stdin):
    shell.run_cell(source).raise_error()
assert shell.user_ns.get("_exit_code", 0) == 0
"""
# Measures this machine for seconds, and asks twice: both have tests of their own.
ELSEWHERE = ("settings", "doctor", "ask")
FEWER = {
    'TRAIN_OPTIONS = ""': 'TRAIN_OPTIONS = "--max-steps 2"',
    'EVALUATE_OPTIONS = ""': 'EVALUATE_OPTIONS = "--max-test 2 --max-unseen 2 --baselines tfidf"',
}


@pytest.fixture
def run(tmp_path):
    """Run cells in one fresh session in an empty folder, where `nvidia-smi` finds no GPU; gives what they show."""
    without_gpu = tmp_path / "bin/nvidia-smi"
    without_gpu.parent.mkdir()
    without_gpu.write_text("#!/bin/sh\nexit 9\n")
    without_gpu.chmod(0o755)
    path = os.pathsep.join((str(without_gpu.parent), str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = os.environ | {
        "PATH": path,
        "PKT_CACHE": str(tmp_path / "cache"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    environment.pop("HF_HUB_CACHE")

    def cells(sources):
        return subprocess.run(
            [sys.executable, "-c", RUN],
            input=json.dumps(sources),
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return cells


def test_the_notebook_goes_from_descriptions_to_a_verified_adapter_that_peft_loads(run, tmp_path):
    settings = CODE["settings"]
    for usual, fewer in FEWER.items():
        assert usual in settings
        settings = settings.replace(usual, fewer)
    done = run([settings, *(source for name, source in CODE.items() if name not in ELSEWHERE)])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Recipe demo\n" in done.stdout
    assert "<IPython.core.display.Image object>" in done.stdout
    sample = json.loads((tmp_path / "adapter/samples.jsonl").read_text(encoding="utf-8").splitlines()[0])
    # What peft generates is what the evaluation of the same adapter did.
    assert done.stdout.strip().splitlines()[-2:] == [sample["description"], sample["greedy"]]
    token = (tmp_path / "hub/token").read_text().strip()
    assert token not in done.stdout + done.stderr


def test_a_command_that_fails_ends_the_notebook(run):
    done = run([CODE["settings"], CODE["choose"], CODE["evaluate"], "print('went on')"])
    assert done.returncode != 0
    assert "went on" not in done.stdout
    assert "adapter" in done.stderr


def test_every_command_of_the_notebook_can_be_parsed():
    lines = [line.lstrip("!") for source in CODE.values() for line in source.splitlines() if re.match("!?pkt ", line)]
    assert len(lines) == 10
    context = click.Context(main)
    for line in lines:
        _, verb, *arguments = shlex.split(line.replace("$TRAIN_OPTIONS", "").replace("$EVALUATE_OPTIONS", ""))
        main.get_command(context, verb).make_context(verb, arguments, parent=context)


def test_the_notebook_holds_no_output_and_is_of_the_format_that_names_cells():
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])
    held = {(cell["execution_count"], *cell["outputs"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"}
    assert held == {(None,)}
    text = "".join("".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "markdown")
    linked = [ROOT / "notebooks" / target for target in re.findall(r"\]\(([^):]+)\)", text)]
    assert len(linked) >= 3
    assert [target for target in linked if not target.exists()] == []
