"""An evaluation on the terminal shows every number whole, however narrow the terminal is."""

import io
import re

import pytest
from rich.console import Console

from support.cards import EVALUATION
from toolkit.cli.output import evaluation, terminal


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_figure_and_no_name_is_cut(monkeypatch, width):
    written = io.StringIO()
    fake = Console(file=written, force_terminal=True, width=width, color_system=None)
    for module in (evaluation, terminal):
        monkeypatch.setattr(module, "CONSOLE", fake)
    evaluation.figures(EVALUATION)
    # A label may begin with dots; what is cut ends with them.
    assert not re.search(r"…(?!\w)", written.getvalue())
