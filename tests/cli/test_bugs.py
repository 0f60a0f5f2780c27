"""A mistake in the toolkit's own code is a bug, exit 70 with a report, and never passed off as a damaged file."""

import os
import subprocess
import sys

import pytest

from support.adapters import make_adapter
from toolkit import cli
from toolkit.model.base import tiny_base_folder

# Replaces a function of the toolkit by one with a typo, as code of the toolkit, and runs a command.
PLANTED = """
import sys, types
from importlib import import_module
place, code, *arguments = sys.argv[1:]
module, _, name = place.rpartition(".")
planted = types.ModuleType("toolkit.planted")
exec(code, planted.__dict__)
setattr(import_module(module), name, planted.call)
from toolkit.cli import main
main(arguments, prog_name="pkt")
"""
TYPO = "def call(*_, **__):\n    return None.nothing"
# Nothing of ours is called while a library reads the file, so the typo stands in the block itself.
TYPO_AT_A_FILE = """
from toolkit.data.dataset import parquet_errors
def call(file):
    with parquet_errors(file):
        return file.nothing
"""


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return make_adapter(tmp_path_factory.mktemp("bugs") / "adapter", tiny_base_folder())


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    from toolkit import build_dataset

    return build_dataset(tmp_path_factory.mktemp("bugs") / "dataset").path


@pytest.mark.parametrize(
    ("place", "code", "command"),
    [
        ("toolkit.model.loading.memory_errors", TYPO, ("name", "A fox.", "--adapter", "{adapter}")),
        ("toolkit.model.attach.memory_errors", TYPO, ("name", "A fox.", "--adapter", "{adapter}")),
        ("toolkit.data.dataset._read", TYPO_AT_A_FILE, ("train", "{dataset}", "{tmp}/out")),
        ("toolkit.cards.templates._environment", TYPO, ("build-dataset", "{tmp}/out")),
        ("toolkit.hub.verify.hub", TYPO, ("verify", "owner/name", "--endpoint", "http://127.0.0.1:9")),
    ],
    ids=["loading a base", "loading an adapter", "reading a dataset", "rendering a card", "talking to the Hub"],
)
def test_a_typo_of_ours_is_a_bug_wherever_it_is_made(tmp_path, adapter, dataset, place, code, command):
    arguments = [part.format(adapter=adapter, dataset=dataset, tmp=tmp_path) for part in command]
    environment = os.environ | {"TMPDIR": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "cache")}
    run = [sys.executable, "-c", PLANTED, place, code, *arguments]
    done = subprocess.run(run, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == cli.BUG_EXIT_CODE, done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: pkt has a bug (AttributeError). Please report it with ")
    (report,) = tmp_path.glob("pkt-bug-*.txt")
    assert "in call\n" in report.read_text()
