"""The figures of an evaluation show what was measured, cope with what was not, and with any name."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from PIL import Image

from support.cards import EVALUATION, score
from toolkit.cards.labels import ordered_methods
from toolkit.cards.model.evaluation_plots import (
    accuracy_plot,
    calibration_plot,
    confusions_plot,
    places_plot,
    told_accuracy,
    told_confusions,
    told_places,
)
from toolkit.cards.model.plots import EVALUATION as FIGURES
from toolkit.cards.plot_style import label
from toolkit.core.results import Evaluation

ADAPTER = EVALUATION["test"]["methods"]["adapter"]


def evaluation(**test: Any) -> Evaluation:
    """An evaluation whose `test` has these values in place of its own."""
    value = copy.deepcopy(EVALUATION)
    value["test"] |= test
    return Evaluation.model_validate(value)


def height(draw: Any, measured: Evaluation, path: Path) -> int:
    assert draw(measured, path)
    with Image.open(path) as image:
        assert image.width == 1400
        return image.height


def test_missing_measures_and_intervals_still_give_a_figure(tmp_path: Path) -> None:
    only_top1 = {"adapter": {"top1": score(1.0, 0.9, 1.0)}}
    uneven = {"adapter": {"top1": {"value": 0.5}}, "somebody/else": {"top5": {"value": 0.2}}}
    for methods in (only_top1, uneven):
        height(accuracy_plot, evaluation(methods=methods, differences={}, shuffled=None), tmp_path / "a.png")


@pytest.mark.parametrize("name", FIGURES)
def test_what_was_not_measured_gives_no_figure(name: str, tmp_path: Path) -> None:
    told, draw = FIGURES[name]
    nothing: dict[str, Any] = {"methods": {}, "shuffled": None, "places": [], "confusions": [], "calibration": None}
    for measured in (evaluation(**nothing), Evaluation.model_validate({**EVALUATION, "test": None})):
        assert not draw(measured, tmp_path / "figure.png")
        assert told(measured) is None
    assert not (tmp_path / "figure.png").exists()


def test_every_measured_method_adds_a_row_to_the_figure(tmp_path: Path) -> None:
    methods = EVALUATION["test"]["methods"]
    heights = [
        height(accuracy_plot, evaluation(methods=dict(list(methods.items())[:count])), tmp_path / "a.png")
        for count in (1, 2, 8)
    ]
    assert heights[0] < heights[1] < heights[2]


def test_the_adapter_comes_first_and_what_costs_nothing_last() -> None:
    assert ordered_methods({"chance": 1, "b/b": 1, "tfidf": 1, "a/a": 1, "base": 1, "adapter": 1}) == [
        *("adapter", "base", "a/a", "b/b", "tfidf", "chance")
    ]


def test_the_accuracy_is_told_with_its_numbers_and_its_control() -> None:
    told = told_accuracy(evaluation())
    assert told is not None
    assert "this adapter 25.0% and 50.0%" in told
    assert "descriptions shuffled 5.0%" in told


@pytest.mark.parametrize("name", ["$a_{$", "x" * 300, "피카츄 한글", "a\nb", "\u202ebidi", "", "a|b `c` <d>"])
def test_no_name_breaks_a_figure(name: str, tmp_path: Path) -> None:
    measured = evaluation(
        methods={"adapter": ADAPTER, name: ADAPTER}, confusions=[{"answer": name, "said": f"{name}!", "rows": 2}]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert accuracy_plot(measured, tmp_path / "a.png")
        confusions_plot(measured, tmp_path / "b.png")


def test_letters_that_the_font_lacks_are_marked_and_make_no_figure_of_mistakes() -> None:
    assert label("피카 Pika", 20) == "?? Pika"
    assert told_confusions(evaluation(confusions=[{"answer": "피카츄", "said": "Raichu", "rows": 5}])) is None
    assert told_confusions(evaluation(confusions=[{"answer": "Pichu", "said": "Raichu", "rows": 5}])) is not None


def test_mistakes_that_were_made_once_each_make_no_figure() -> None:
    once = [{"answer": "Pichu", "said": "Raichu", "rows": 1}]
    assert told_confusions(evaluation(confusions=once)) is None


@pytest.mark.parametrize("count", [1, 12])
def test_any_number_of_places_and_bins_fits(count: int, tmp_path: Path) -> None:
    places = [
        {"from": 10 * row + 1, "to": 10 * row + 10 if row < 11 else None, "rows": row + 1} for row in range(count)
    ]
    bins = [
        {"low": row / 12, "high": (row + 1) / 12, "rows": 3, "confidence": (row + 0.5) / 12, "accuracy": 0.5}
        for row in range(count)
    ]
    measured = evaluation(places=places, calibration={"bins": bins, "error": 0.1, "brier": 0.2})
    height(places_plot, measured, tmp_path / "a.png")
    height(calibration_plot, measured, tmp_path / "b.png")


def test_rows_whose_answer_shares_places_are_counted_in_parts(tmp_path: Path) -> None:
    measured = evaluation(places=[{"from": 1, "to": 1, "rows": 1234.5}, {"from": 2, "to": 5, "rows": 11 + 2 / 3}])
    assert "1: 1,234.5, 2–5: 11.7" in (told_places(measured) or "")
    height(places_plot, measured, tmp_path / "a.png")
    assert "1: 6, 2–5: 6, 6–10: 5" in (told_places(evaluation()) or "")


def test_the_same_evaluation_draws_the_same_bytes_whatever_the_user_s_style(tmp_path: Path) -> None:
    accuracy_plot(evaluation(), tmp_path / "a.png")
    with mpl.rc_context({"font.size": 22, "axes.facecolor": "black", "savefig.dpi": 30}):
        accuracy_plot(evaluation(), tmp_path / "a2.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "a2.png").read_bytes()
