"""What a terminal and a log show of progress and results: as much as the width allows, every number whole."""

import io
import re
import shutil
import sys
from dataclasses import replace
from os import terminal_size
from pathlib import Path

import click
import pytest
from rich.cells import cell_len
from rich.console import Console

from support.cards import EVALUATION
from toolkit.cli import output, results
from toolkit.cli.output import Output, training_line
from toolkit.model.doctor import Diagnosis
from toolkit.model.naming import Candidate, Identified, InventedName, Named
from toolkit.training.progress import TrainingProgress
from toolkit.training.train import TrainResult

NOW = TrainingProgress(
    step=120,
    steps=300,
    loss=1.234,
    validation_loss=1.567,
    seconds_left=125,
    learning_rate=2e-4,
    tokens_per_second=1234.5,
    memory_bytes=1_620_000_000,
)
FIRST = TrainingProgress(1, 3000, None, None, None)
ALL = "step 120/300  loss 1.234  2 min 05 s left  val. 1.567  1.6 GB  1,234 tok/s  lr 2.0e-04"


def printing(terminal_width=None):
    """An output to a terminal of that width, or to a log, and what it writes."""
    written = io.StringIO()
    # A log has lines as long as they are.
    console = Console(
        file=written, force_terminal=terminal_width is not None, width=terminal_width or 1000, color_system=None
    )
    return Output(console=console), written


def lines_of(written):
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.getvalue()).replace("\r", "\n").split("\n")


def test_a_dumb_terminal_is_shown_lines_as_a_log_is(monkeypatch):
    clock(monkeypatch, 0.0, 6.0, 6.0, 7.0)
    monkeypatch.setenv("TERM", "dumb")
    out, written = printing(80)
    with out.counting() as count:
        count("masking", 5, 9)
        count("masking", 9, 9)
    assert written.getvalue() == "  masking 5/9\n  masking 9/9\n"


def clock(monkeypatch, *times):
    ticking = iter(times)
    monkeypatch.setattr(output.time, "monotonic", lambda: next(ticking))


@pytest.mark.parametrize(("width", "shown"), [(40, "step 120/300  loss 1.234"), (80, ALL[:60]), (200, ALL)])
def test_a_bar_stays_within_its_terminal_shows_the_loss_first_and_is_gone_in_the_end(width, shown):
    out, written = printing(width)
    with out.training() as report:
        report(NOW)
        report(replace(NOW, step=300))
    lines = lines_of(written)
    assert max(map(len, lines)) <= width
    assert any(shown in line for line in lines)
    # The last things written erase the line and give the cursor back.
    assert written.getvalue().rstrip().endswith("\x1b[2K\x1b[?25h")


def test_what_is_not_known_is_left_out():
    assert training_line(FIRST) == "step    1/3000"


def test_a_log_gets_a_line_every_few_seconds(monkeypatch):
    clock(monkeypatch, 0.0, 1.0, 2.0, 6.0, 6.0, 7.0)
    out, written = printing()
    with out.training() as report:
        for step in (1, 2, 3, 4):
            report(replace(NOW, step=step, validation_loss=None))
    assert re.findall(r"step +(\d+)", written.getvalue()) == ["3"]


def test_a_log_gets_a_line_at_each_validation_and_at_the_end(monkeypatch):
    monkeypatch.setattr(output.time, "monotonic", lambda: 0.0)
    out, written = printing()
    with out.training() as report:
        for step, validation in ((1, None), (2, 2.5), (3, 2.5), (4, 2.4), (299, 2.4), (300, 2.4)):
            report(replace(NOW, step=step, validation_loss=validation))
    assert re.findall(r"step +(\d+)", written.getvalue()) == ["2", "4", "300"]
    assert written.getvalue().splitlines()[-1] == f"  {ALL.replace('120/', '300/').replace('1.567', '2.400')}"


def test_a_log_says_which_part_of_a_row_is_done(monkeypatch):
    clock(monkeypatch, 0.0, 6.0, 6.0, 12.0, 12.0)
    out, written = printing()
    with out.counting() as count:
        count("identify", 1 + 0.375, 118)
        count("identify", 2, 118)
    assert written.getvalue().splitlines() == ["  identify 1.4/118", "  identify 2/118"]


@pytest.mark.parametrize("width", [None, 80])
def test_what_ends_within_a_second_is_not_shown(monkeypatch, width):
    now = [0.0]
    monkeypatch.setattr(output.time, "monotonic", lambda: now[0])
    out, written = printing(width)
    with out.waiting() as count:
        for now[0] in (60.0, 60.5, 60.9):
            count("ranking", now[0] - 60, 1)
    assert written.getvalue() == ""


@pytest.mark.parametrize(("width", "shown"), [(None, "  ranking 68/100\n"), (80, "68/100")])
def test_what_takes_longer_is_shown(monkeypatch, width, shown):
    now = [0.0]
    monkeypatch.setattr(output.time, "monotonic", lambda: now[0])
    out, written = printing(width)
    with out.waiting() as count:
        for now[0] in (60.0, 62.0, 64.0, 68.0):
            count("ranking", int(now[0]), 100)
    assert shown in written.getvalue()


@pytest.mark.parametrize("width", [None, 120])
def test_a_whole_run_keeps_the_last_line_of_the_training_once_and_shows_none_before(width):
    out, written = printing(width)
    with out.pipeline() as (step, count, training):
        step("Dataset", False)
        count("reading", 3, 10)
        assert "step" not in written.getvalue()
        step("Training", False)
        training(NOW)
        training(replace(NOW, step=300))
    assert len([line for line in lines_of(written) if line.startswith("  step 300/300")]) == 1


RESULT = TrainResult(
    adapter=Path("runs/adapter"),
    steps=300,
    epochs=4.84,
    resumed_from=50,
    best_step=250,
    loss=0.123,
    validation_loss=0.456,
    seconds=125,
    tokens_per_second=1234.5,
    peak_memory_bytes=1_620_000_000,
    notes=("A checkpoint was damaged.",),
)
BARE = replace(
    RESULT, resumed_from=0, best_step=None, validation_loss=None, loss=None, tokens_per_second=None, notes=()
)
NEXT = ["peak memory 1.6 GB", "adapter runs/adapter", "Measure it with `pkt evaluate runs/adapter data`."]


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (
            RESULT,
            [
                "300 steps, 4.8 epochs, in 2 min 05 s, continued from step 50.",
                "loss 0.123",
                "validation loss 0.456, the lowest, at step 250",
                "pace 1,234 tokens/s",
            ],
        ),
        (BARE, ["300 steps, 4.8 epochs, in 2 min 05 s."]),
    ],
)
def test_the_summary_of_a_training_says_what_was_measured_and_what_comes_next(monkeypatch, result, said):
    monkeypatch.setattr(results, "program", lambda: "pkt")
    out, written = printing()
    results.trained(out, result, "data")
    assert [" ".join(line.split()) for line in written.getvalue().splitlines()] == [*said, *NEXT]
    results.trained(out, result, None)
    assert "evaluate runs/adapter DATASET`, a dataset with a split test, which this one lacks." in written.getvalue()


def test_the_doctors_addresses_are_whole_in_80_columns():
    out, written = printing(80)
    licence = "gated: accept its licence on https://huggingface.co/google/gemma-2-9b-it"
    results.diagnosed(out, [Diagnosis("recipe gemma-2-9b-24gb", "note", "18 GB to download", licence)])
    assert licence.split()[-1] in written.getvalue()
    assert max(map(len, lines_of(written))) <= 80


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_figure_and_no_name_of_an_evaluation_is_cut(width):
    out, written = printing(width)
    results.evaluated(out, EVALUATION)
    # A label may begin with dots; what is cut ends with them.
    assert not re.search(r"…(?!\w)", written.getvalue())


def test_no_interval_is_broken_in_80_columns_beside_another_adapter():
    out, written = printing(80)
    unseen = EVALUATION["unseen"]
    methods = unseen["methods"]
    other = {"owner/name": methods["adapter"], "owner/name, new names": methods["adapter, new names"]}
    results.evaluated(out, EVALUATION | {"unseen": unseen | {"methods": methods | other}})
    table = written.getvalue().split("Creatures never seen", 1)[1]
    # Each that begins ends on the same line.
    assert table.count("(") == len(re.findall(r"\([^()\n]+\)", table)) > 10


LONG = "꼬리에 푸른 불꽃이 타는 작은 여우가 " * 9
NAMED = Named(
    LONG,
    [InventedName(LONG, 0.5, True), InventedName("\x1b[2J\n식스테일", 1e-9, False)],
    [Candidate("식스테일", 0.991)],
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("columns", [20, 41, 80])
def test_no_answer_is_wider_than_the_terminal(monkeypatch, columns):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda *_: terminal_size((columns, 24)))
    results.named(Output(), NAMED, wanted=2, one_of_several=True)
    results.identified(Output(), Identified(LONG, [Candidate(LONG, 0.2)]), one_of_several=True)
    lines = click.unstyle(terminal.getvalue()).splitlines()
    assert max(map(cell_len, lines)) in (columns, columns - 1)
    assert any(line.endswith("…") for line in lines)


def test_a_pipe_gets_whole_answers_and_none_commands_the_terminal(capsys):
    results.named(Output(), NAMED, wanted=2, one_of_several=True)
    printed = capsys.readouterr().out
    assert printed.splitlines()[:2] == [LONG, f" 50.0%  {LONG}  (known)"]
    assert "\x1b" not in printed
    assert r" <0.1%  \x1b[2J\n식스테일" in printed
