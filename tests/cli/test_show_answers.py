"""Answers in a terminal: no line is wider than it, and none commands it."""

import io
import shutil
import sys
from os import terminal_size

import click
import pytest
from rich.cells import cell_len

from toolkit.cli.output import answers
from toolkit.model.naming import Candidate, Identified, Invented, Named

LONG = "꼬리에 푸른 불꽃이 타는 작은 여우가 " * 9
RESULT = Named(
    LONG, [Invented(LONG, 0.5, True), Invented("\x1b[2J\n식스테일", 1e-9, False)], [Candidate("식스테일", 0.991)]
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("columns", [20, 41, 80])
def test_no_line_is_wider_than_the_terminal(monkeypatch, columns):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda *_: terminal_size((columns, 24)))
    answers.named(RESULT, False, wanted=2, one_of_several=True)
    answers.identified(Identified(LONG, [Candidate(LONG, 0.2)]), False, one_of_several=True)
    lines = click.unstyle(terminal.getvalue()).splitlines()
    assert max(map(cell_len, lines)) in (columns, columns - 1)
    assert any(line.endswith("…") for line in lines)


def test_a_pipe_gets_everything(capsys):
    answers.named(RESULT, False, wanted=2, one_of_several=True)
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert (first, second) == (LONG, f" 50.0%  {LONG}  (known)")


def test_what_a_model_says_does_not_command_the_terminal(capsys):
    answers.named(RESULT, False, wanted=2, one_of_several=False)
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert r" <0.1%  \x1b[2J\n식스테일" in printed
