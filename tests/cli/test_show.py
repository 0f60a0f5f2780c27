"""What a terminal shows of a training: as much as its width allows, steady, and readable in a log."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from toolkit.cli import output
from toolkit.cli.output import progress, terminal
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
ALL = "step 120/300  loss 1.234  val. 1.567  lr 2.0e-04  1,234 tok/s  1.6 GB  2 min 05 s left"


def words(text):
    return " ".join(text.split())


def console(monkeypatch, *, terminal_width=None):
    """Standard error as a terminal of that width, or as a file; gives what was written."""
    written = io.StringIO()
    # A log has lines as long as they are.
    fake = Console(file=written, force_terminal=terminal_width is not None, width=terminal_width or 1000)
    for module in (output, progress, terminal):
        monkeypatch.setattr(module, "CONSOLE", fake)
    return written


@pytest.mark.parametrize("width", range(40, 200))
@pytest.mark.parametrize("where", [NOW, FIRST, replace(NOW, steps=3000, loss=12.3456, seconds_left=86400 * 3)])
def test_bar_and_columns_fit_every_width(width, where):
    bar = progress.WIDE_BAR if width >= progress.WIDE else progress.BAR
    assert progress.FRAME + bar + len(progress.beside_the_bar(where, width)) <= width


def test_a_wide_terminal_shows_everything():
    assert words(progress.beside_the_bar(NOW, 120)) == words(ALL)


def test_80_columns_show_losses_memory_and_time_left():
    assert words(progress.beside_the_bar(NOW, 80)) == "step 120/300 loss 1.234 val. 1.567 1.6 GB 2 min 05 s left"


def test_a_narrow_terminal_keeps_the_loss_and_then_the_time_left():
    assert words(progress.beside_the_bar(NOW, 56)) == "step 120/300 loss 1.234 2 min 05 s left"
    assert words(progress.beside_the_bar(NOW, 40)) == "step 120/300 loss 1.234"


def test_nothing_jumps_when_a_number_gets_longer_or_is_not_known_yet():
    changed = (
        {"loss": 12.5},
        {"tokens_per_second": 9.0},
        {"validation_loss": None},
        {"memory_bytes": None},
        {"step": 9},
    )
    texts = [progress.beside_the_bar(replace(NOW, **values), 120) for values in ({}, *changed)]
    assert len({text.index("lr") for text in texts}) == 1
    assert len({text.index("2 min 05 s left") for text in texts}) == 1


def test_what_is_not_known_is_left_out():
    assert words(progress.beside_the_bar(FIRST, 120)) == "step 1/3000"
    assert progress.training_line(FIRST) == "  step 1/3000"


def test_a_terminal_has_a_bar_within_its_width_that_is_gone_in_the_end(monkeypatch):
    written = console(monkeypatch, terminal_width=80)
    with output.training() as report:
        report(NOW)
        report(replace(NOW, step=300))
    lines = [words(line) for line in terminal_lines(written.getvalue())]
    assert any("loss 1.234" in line for line in lines)
    assert max(map(len, terminal_lines(written.getvalue()))) <= 80


def terminal_lines(text):
    import re

    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).replace("\r", "\n").split("\n")


def test_a_log_gets_a_line_every_few_seconds(monkeypatch):
    clock = iter([0.0, 1.0, 2.0, 6.0, 6.0, 7.0])
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(clock))
    written = console(monkeypatch)
    with output.training() as report:
        for step in (1, 2, 3, 4):
            report(replace(NOW, step=step, validation_loss=None))
    assert [line.split("  ")[1] for line in written.getvalue().splitlines()] == ["step 3/300"]


def test_a_log_gets_a_line_at_each_validation_and_at_the_end(monkeypatch):
    monkeypatch.setattr(terminal.time, "monotonic", lambda: 0.0)
    written = console(monkeypatch)
    with output.training() as report:
        for step, validation in ((1, None), (2, 2.5), (3, 2.5), (4, 2.4), (299, 2.4), (300, 2.4)):
            report(replace(NOW, step=step, validation_loss=validation))
    assert [line.split("  ")[1] for line in written.getvalue().splitlines()] == [
        "step 2/300", "step 4/300", "step 300/300",
    ]  # fmt: skip
    assert written.getvalue().splitlines()[-1] == f"  {ALL.replace('120/', '300/').replace('1.567', '2.400')}"


def test_a_log_says_which_part_of_a_row_is_done(monkeypatch):
    clock = iter([0.0, 6.0, 6.0, 12.0, 12.0])
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(clock))
    written = console(monkeypatch)
    with output.counting() as count:
        count("identify", 1 + 0.375, 118)
        count("identify", 2, 118)
    assert written.getvalue().splitlines() == ["  identify 1.4/118", "  identify 2/118"]


@pytest.mark.parametrize("width", [None, 80])
def test_what_ends_within_a_second_is_not_shown(monkeypatch, width):
    clock = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: clock[0])
    written = console(monkeypatch, terminal_width=width)
    with output.waiting() as count:
        for clock[0] in (60.0, 60.5, 60.9):
            count("ranking", clock[0] - 60, 1)
    assert written.getvalue() == ""


def test_what_takes_longer_has_a_bar_that_is_gone_in_the_end(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: clock[0])
    written = console(monkeypatch, terminal_width=80)
    with output.waiting() as count:
        for clock[0] in (60.0, 61.5):
            count("ranking", clock[0] - 60, 50_000)
    assert "1/50000" in written.getvalue()
    # The last thing written erases the line.
    assert written.getvalue().rstrip().endswith("\x1b[2K")


def test_what_takes_longer_has_lines_in_a_log(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: clock[0])
    written = console(monkeypatch)
    with output.waiting() as count:
        for clock[0] in (60.0, 62.0, 64.0, 68.0):
            count("ranking", int(clock[0]), 100)
    assert written.getvalue() == "  ranking 68/100\n"


def test_a_whole_run_keeps_the_last_line_of_the_training_once(monkeypatch):
    for width in (None, 100):
        written = console(monkeypatch, terminal_width=width)
        with output.road() as (step, _, training):
            step("Training", False)
            training(NOW)
            training(replace(NOW, step=300))
        kept = [line for line in terminal_lines(written.getvalue()) if line.startswith("  step 300/300")]
        assert len(kept) == 1


def test_a_whole_run_shows_no_training_before_there_is_one(monkeypatch):
    written = console(monkeypatch, terminal_width=100)
    with output.road() as (step, count, _):
        step("Dataset", False)
        count("reading", 3, 10)
    assert "step" not in written.getvalue()


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


def summary(monkeypatch, result, dataset="data"):
    written = console(monkeypatch)
    monkeypatch.setattr(output, "program", lambda: "pkt")
    output.trained(result, False, dataset)
    return [words(line) for line in written.getvalue().splitlines()]


def test_the_summary_says_what_was_done_what_came_of_it_and_what_comes_next(monkeypatch):
    assert summary(monkeypatch, RESULT) == [
        "300 steps, 4.8 epochs, in 2 min 05 s, continued from step 50.",
        "loss 0.123",
        "validation loss 0.456, the lowest, at step 250",
        "pace 1,234 tokens/s",
        "peak memory 1.6 GB",
        "adapter runs/adapter",
        "Measure it with `pkt evaluate runs/adapter data`.",
    ]


def test_the_summary_leaves_out_what_was_not_measured(monkeypatch):
    bare = replace(
        RESULT, resumed_from=0, best_step=None, validation_loss=None, loss=None, tokens_per_second=None, notes=()
    )
    assert summary(monkeypatch, bare, None) == [
        "300 steps, 4.8 epochs, in 2 min 05 s.",
        "peak memory 1.6 GB",
        "adapter runs/adapter",
        "Measure it with `pkt evaluate runs/adapter DATASET`.",
    ]


def test_the_doctors_addresses_are_whole_in_80_columns(monkeypatch):
    from toolkit.model.doctor import Finding

    written = console(monkeypatch, terminal_width=80)
    licence = "gated: accept its licence on https://huggingface.co/google/gemma-2-9b-it"
    output.diagnosed([Finding("recipe gemma-2-9b-24gb", "note", "18 GB to download, 9.6 GB of memory", licence)], False)
    assert "…" not in written.getvalue()
    assert max(map(len, terminal_lines(written.getvalue()))) <= 80
