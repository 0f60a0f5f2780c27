"""The figures show what was measured, cope with what was not, and are the same bytes each time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from PIL import Image

from support.cards import EVALUATION
from toolkit.cards.model import plots
from toolkit.cards.model.plots import draw_figures, loss_plot, told_figures, told_loss
from toolkit.core.results import Evaluation

LOG: list[dict[str, Any]] = [
    {"step": 10, "epoch": 0.4, "loss": 3.1, "learning_rate": 0.003, "grad_norm": 1.2},
    {"step": 20, "epoch": 0.8, "loss": 2.1, "learning_rate": 0.002, "grad_norm": 1.1},
    {"step": 20, "validation_loss": 2.9},
]


@pytest.mark.parametrize(
    "log",
    [
        LOG,
        LOG[:1],
        LOG[:2],
        LOG[2:],
        [{"step": 1, "loss": 0.0}],
        [{"step": step, "loss": 1.0} for step in range(1, 3000)],
    ],
    ids=["whole", "one row", "no validation", "only validation", "zero loss", "long"],
)
def test_any_log_gives_a_figure_of_the_card_s_width(log: list[dict[str, Any]], tmp_path: Path) -> None:
    assert loss_plot(log, tmp_path / "figures" / "loss.png")
    with Image.open(tmp_path / "figures" / "loss.png") as image:
        assert image.width == 1400


def height(log: list[dict[str, Any]], path: Path) -> int:
    assert loss_plot(log, path)
    with Image.open(path) as image:
        return image.height


def test_learning_rate_and_gradient_norm_are_drawn_where_the_log_has_them(tmp_path: Path) -> None:
    heights = [
        height([{key: row[key] for key in ("step", *keys) if key in row} for row in LOG], tmp_path / "loss.png")
        for keys in (("loss",), ("loss", "learning_rate"), ("loss", "learning_rate", "grad_norm"))
    ]
    assert heights[0] < heights[1] < heights[2]


def test_the_lowest_validation_loss_is_marked_where_there_are_several(tmp_path: Path) -> None:
    from toolkit.cards.plot_style import new_figure

    def labels(validation: list[tuple[float, float]]) -> list[str]:
        with new_figure(3) as figure:
            axes = figure.add_subplot()
            plots._draw_losses(axes, [(10, 2.0)], validation)
            marked = [line for line in axes.lines if line.get_label() == "lowest"]
            return [f"{line.get_xdata()[0]:g}" for line in marked]

    assert labels([(10, 2.9), (20, 1.9), (30, 2.4)]) == ["20"]
    assert labels([(10, 2.9)]) == []


def test_an_empty_log_gives_no_figure(tmp_path: Path) -> None:
    assert not loss_plot([], tmp_path / "loss.png")
    assert not (tmp_path / "loss.png").exists()


def test_the_same_run_draws_the_same_bytes_whatever_the_user_s_style(tmp_path: Path) -> None:
    loss_plot(LOG, tmp_path / "a.png")
    with mpl.rc_context({"font.size": 22, "axes.facecolor": "black", "savefig.dpi": 30}):
        loss_plot(LOG, tmp_path / "a2.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "a2.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert "Software" not in image.info


def test_a_figure_is_told_exactly_when_it_is_drawn(tmp_path: Path) -> None:
    whole = Evaluation.model_validate(EVALUATION)
    bare = Evaluation.model_validate({**EVALUATION, "test": {"rows": 1, "methods": {}}})
    for log, evaluation in ((LOG, whole), (LOG, None), ([], bare), ([], whole)):
        draw_figures(log, evaluation, tmp_path)
        told = {name for name, text in told_figures(log, evaluation).items() if text}
        assert told == {file.stem for file in tmp_path.glob("*.png")}
    assert told_figures(LOG, whole).keys() == {"loss", *plots.EVALUATION}


def test_the_losses_are_told_with_their_numbers() -> None:
    told = told_loss(LOG)
    assert told is not None
    assert "training loss from 3.10 at step 10 to 2.10 at step 20" in told
    assert "validation loss" in told


def test_drawing_leaves_matplotlib_s_settings_and_pyplot_alone(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    loss_plot(LOG, tmp_path / "loss.png")
    assert dict(mpl.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_the_background_is_white_so_that_dark_pages_show_the_labels(tmp_path: Path) -> None:
    loss_plot(LOG, tmp_path / "loss.png")
    with Image.open(tmp_path / "loss.png") as image:
        assert image.convert("RGBA").getpixel((1, 1)) == (255, 255, 255, 255)
