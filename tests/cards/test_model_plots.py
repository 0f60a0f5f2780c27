"""The plots of an adapter show what was measured, cope with any name and with what is missing, in the same bytes."""

from __future__ import annotations

import copy
import sys
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from PIL import Image

from support.cards import EVALUATION, score
from toolkit.cards.labels import ordered_methods
from toolkit.cards.model_plots import PLOTS, draw_plots, plots_in_words
from toolkit.cards.plot_style import label
from toolkit.core.results import Evaluation

LOG: list[dict[str, Any]] = [
    {"step": 10, "epoch": 0.4, "loss": 3.1, "learning_rate": 0.003, "grad_norm": 1.2},
    {"step": 20, "epoch": 0.8, "loss": 2.1, "learning_rate": 0.002, "grad_norm": 1.1},
    {"step": 20, "validation_loss": 2.9},
]
ADAPTER = EVALUATION["test"]["methods"]["adapter"]


def evaluation(**test: Any) -> Evaluation:
    """An evaluation whose `test` has these values in place of its own."""
    value = copy.deepcopy(EVALUATION)
    value["test"] |= test
    return Evaluation.model_validate(value)


def height(name: str, folder: Path, log: list[dict[str, Any]], measured: Evaluation | None = None) -> int:
    draw_plots(log, measured, folder)
    with Image.open(folder / f"{name}.png") as image:
        assert image.width == 1400
        return image.height


def in_words(name: str, **test: Any) -> str | None:
    return plots_in_words([], evaluation(**test))[name]


@pytest.mark.parametrize(
    "log",
    [
        LOG[:1],
        LOG[:2],
        LOG[2:],
        [{"step": 1, "loss": 0.0}],
        [{"step": step, "loss": 1.0} for step in range(1, 3000)],
    ],
    ids=["one row", "no validation", "only validation", "zero loss", "long"],
)
def test_any_log_gives_a_plot_of_the_card_s_width(log: list[dict[str, Any]], tmp_path: Path) -> None:
    assert height("loss", tmp_path, log)


def test_learning_rate_and_gradient_norm_are_drawn_if_the_log_has_them(tmp_path: Path) -> None:
    heights = [
        height("loss", tmp_path, [{key: row[key] for key in ("step", *keys) if key in row} for row in LOG])
        for keys in (("loss",), ("loss", "learning_rate"), ("loss", "learning_rate", "grad_norm"))
    ]
    assert heights[0] < heights[1] < heights[2]


def test_the_lowest_validation_loss_is_marked_if_there_are_several() -> None:
    from toolkit.cards.model_plots import _draw_losses
    from toolkit.cards.plot_style import new_figure

    def lowest(validation: list[tuple[float, float]]) -> list[str]:
        with new_figure(3) as figure:
            axes = figure.add_subplot()
            _draw_losses(axes, [(10, 2.0)], validation)
            return [f"{line.get_xdata()[0]:g}" for line in axes.lines if line.get_label() == "lowest"]

    assert lowest([(10, 2.9), (20, 1.9), (30, 2.4)]) == ["20"]
    assert lowest([(10, 2.9)]) == []


def test_missing_measures_and_intervals_still_give_a_plot(tmp_path: Path) -> None:
    only_top1 = {"adapter": {"top1": score(1.0, 0.9, 1.0)}}
    uneven = {"adapter": {"top1": {"value": 0.5}}, "somebody/else": {"top5": {"value": 0.2}}}
    for methods in (only_top1, uneven):
        height("accuracy", tmp_path, [], evaluation(methods=methods, differences={}, shuffled=None))


def test_a_plot_is_drawn_exactly_when_there_are_words_for_it(tmp_path: Path) -> None:
    nothing: dict[str, Any] = {"methods": {}, "shuffled": None, "places": [], "confusions": [], "calibration": None}
    without_test = Evaluation.model_validate({**EVALUATION, "test": None})
    for log, measured, count in (
        (LOG, evaluation(), 5),
        ([], evaluation(), 4),
        (LOG, None, 1),
        ([], evaluation(**nothing), 0),
        ([], without_test, 0),
    ):
        draw_plots(log, measured, tmp_path)
        words = plots_in_words(log, measured)
        assert {name for name, text in words.items() if text} == {file.stem for file in tmp_path.glob("*.png")}
        assert sum(map(bool, words.values())) == count
        assert words.keys() == {"loss", *PLOTS}


def test_every_measured_method_adds_a_row(tmp_path: Path) -> None:
    methods = EVALUATION["test"]["methods"]
    heights = [
        height("accuracy", tmp_path, [], evaluation(methods=dict(list(methods.items())[:count]))) for count in (1, 2, 8)
    ]
    assert heights[0] < heights[1] < heights[2]


def test_the_adapter_comes_first_and_what_costs_nothing_last() -> None:
    assert ordered_methods(["chance", "b/b", "tfidf", "a/a", "base", "adapter"]) == [
        *("adapter", "base", "a/a", "b/b", "tfidf", "chance")
    ]


def test_plots_are_put_into_words_with_their_numbers() -> None:
    losses = plots_in_words(LOG, None)["loss"] or ""
    assert "training loss from 3.10 at step 10 to 2.10 at step 20, validation loss from 2.90" in losses
    accuracy = in_words("accuracy") or ""
    assert "this model 25.0% and 50.0%" in accuracy
    assert "descriptions shuffled 5.0%" in accuracy
    assert "1: 6, 2–5: 6, 6–10: 5" in (in_words("places") or "")
    # Rows whose answer shares its rank are counted in parts.
    shared = [{"from": 1, "to": 1, "rows": 1234.5}, {"from": 2, "to": 5, "rows": 11 + 2 / 3}]
    assert "1: 1,234.5, 2–5: 11.7" in (in_words("places", places=shared) or "")


@pytest.mark.parametrize("name", ["$a_{$", "x" * 300, "피카츄 한글", "a\nb", "\u202ebidi", "", "a|b `c` <d>"])
def test_no_name_breaks_a_plot(name: str, tmp_path: Path) -> None:
    measured = evaluation(
        methods={"adapter": ADAPTER, name: ADAPTER}, confusions=[{"answer": name, "said": f"{name}!", "rows": 2}]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_plots([], measured, tmp_path)
    assert (tmp_path / "accuracy.png").is_file()


def test_mistakes_made_once_each_or_in_letters_that_the_font_lacks_make_no_plot() -> None:
    assert label("피카 Pika", 20) == "?? Pika"
    for answer, rows, drawn in (("피카츄", 5, False), ("Pichu", 1, False), ("Pichu", 5, True)):
        words = in_words("confusions", confusions=[{"answer": answer, "said": "Raichu", "rows": rows}])
        assert (words is not None) == drawn


@pytest.mark.parametrize("count", [1, 12])
def test_any_number_of_ranks_and_bins_fits(count: int, tmp_path: Path) -> None:
    places = [{"from": 10 * n + 1, "to": 10 * n + 10 if n < 11 else None, "rows": n + 1} for n in range(count)]
    bins = [
        {"low": n / 12, "high": (n + 1) / 12, "rows": 3, "confidence": (n + 0.5) / 12, "accuracy": 0.5}
        for n in range(count)
    ]
    measured = evaluation(places=places, calibration={"bins": bins, "error": 0.1, "brier": 0.2})
    assert height("places", tmp_path, [], measured)
    assert height("calibration", tmp_path, [], measured)


def test_the_same_run_draws_the_same_bytes_on_white_whatever_the_user_s_style(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    draw_plots(LOG, evaluation(), tmp_path / "a")
    assert dict(mpl.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    with mpl.rc_context({"font.size": 22, "axes.facecolor": "black", "savefig.dpi": 30}):
        draw_plots(LOG, evaluation(), tmp_path / "b")
    for name in ("loss", *PLOTS):
        assert (tmp_path / "a" / f"{name}.png").read_bytes() == (tmp_path / "b" / f"{name}.png").read_bytes()
    with Image.open(tmp_path / "a" / "loss.png") as image:
        assert "Software" not in image.info
        assert image.convert("RGBA").getpixel((1, 1)) == (255, 255, 255, 255)
