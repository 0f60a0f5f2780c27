"""What the command line does to its process: how threads wait, and what comes first."""

import logging
import os

import pytest
from click.testing import CliRunner

from toolkit import cli
from toolkit.cli import process


@pytest.mark.parametrize(
    ("command", "busy", "chosen", "then"),
    [
        ("name", 0.0, None, "PASSIVE"),
        ("name", 0.0, "ACTIVE", "ACTIVE"),
        ("train", 0.0, None, None),
        ("train", 1.5, None, "PASSIVE"),
        ("train", 1.5, "ACTIVE", "ACTIVE"),
        ("validate", 1.5, None, None),
    ],
)
def test_threads_sleep_for_an_answer_and_beside_busy_programs_unless_the_user_chose(
    monkeypatch, command, busy, chosen, then
):
    monkeypatch.setenv("OMP_WAIT_POLICY", chosen or "")
    if chosen is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr(process, "busy_cores", lambda: busy)
    process.prepare(command, verbose=True)
    assert os.environ.get("OMP_WAIT_POLICY") == then


def test_a_command_prepares_its_process_before_it_chooses_a_hub(monkeypatch):
    done = []
    monkeypatch.setattr(process, "prepare", lambda command, verbose: done.append((command, verbose)))
    monkeypatch.setattr("toolkit.core.hub_client.use_hub", lambda *_: done.append("hub"))
    assert CliRunner().invoke(cli.main, ["--verbose", "train", "no/folder/here", "out"]).exit_code == 2
    assert done == [("train", True), "hub"]


def test_what_the_toolkit_logs_is_said():
    said = []
    process.show_log(said.append)
    logging.getLogger("toolkit").info("Downloading the base %s: %s.", "a/b", "2 GB")
    process.show_log(lambda _: None)
    assert said == ["Downloading the base a/b: 2 GB."]
