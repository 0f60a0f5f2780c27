"""Figures of an evaluation: accuracy beside what it has to beat, ranks, calibration, confusions. Knows no cards.

Each `told_…` says in words what its figure shows, and is None where there is nothing to draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.cards.labels import ordered_methods
from toolkit.cards.model.metadata import public_name
from toolkit.cards.plot_style import BLUE, FAINT, GREY, INK, ORANGE, drawable, label, new_figure, save
from toolkit.core.results import Bin, Evaluation, Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHORT = {
    "adapter": "this adapter",
    "shuffled": "descriptions shuffled",
    "base": "base alone",
    "tfidf": "TF-IDF neighbour",
    "tfidf_centroid": "TF-IDF centroid",
    "encoder": "sentence encoder",
    "frequent": "most frequent names",
    "chance": "chance",
}
COLOURS = {"adapter": BLUE, "shuffled": ORANGE}
MEASURES = {"top1": "Top-1: the right name is first", "top5": "Top-5: it is among the first five"}
LONGEST = 26


def accuracy_plot(evaluation: Evaluation, path: Path) -> bool:
    """Draw top-1 and top-5 accuracy of every method, with 95 % intervals as whiskers, as PNG.

    Args:
        evaluation: What `evaluation.json` holds.
        path: File to write.

    Returns:
        Whether there was anything to draw; if not, no file is written.
    """
    methods = _methods(evaluation)
    panels = [measure for measure in MEASURES if any(measure in figures for figures in methods.values())]
    if not panels:
        return False
    with new_figure(0.95 + 0.34 * len(methods)) as figure:
        for index, measure in enumerate(panels):
            axes = figure.add_subplot(1, len(panels), index + 1)
            _draw_bars(axes, {name: figures.get(measure) for name, figures in methods.items()})
            axes.set_title(MEASURES[measure], fontsize=10, loc="left")
            if index:
                axes.tick_params(labelleft=False)
        save(figure, path)
    return True


def told_accuracy(evaluation: Evaluation) -> str | None:
    """Top-1 and top-5 of every method."""
    methods = _methods(evaluation)
    if not any(measure in figures for figures in methods.values() for measure in MEASURES):
        return None
    shown = (f"{_short(name)} {_both(figures)}" for name, figures in methods.items())
    return f"Bars of top-1 and top-5 accuracy: {'; '.join(shown)}"


def _both(figures: Mapping[str, Score]) -> str:
    return " and ".join(f"{figures[key].value:.1%}" if key in figures else "not measured" for key in MEASURES)


def _methods(evaluation: Evaluation) -> dict[str, dict[str, Score]]:
    """The figures of each method, the shuffled control under the adapter."""
    test = evaluation.test
    if test is None:
        return {}
    methods = {}
    for name in ordered_methods(test.methods):
        methods[name] = test.methods[name]
        if name == "adapter" and test.shuffled is not None:
            methods["shuffled"] = test.shuffled.figures
    return methods


def _short(name: str) -> str:
    return SHORT.get(name) or label(public_name(name), LONGEST)


def _draw_bars(axes: Axes, scores: Mapping[str, Score | None]) -> None:
    for row, (name, score) in enumerate(scores.items()):
        if score is None:
            axes.text(0.01, row, "not measured", va="center", fontsize=9)
            continue
        axes.barh(row, score.value, height=0.62, color=COLOURS.get(name, GREY))
        if score.interval is not None:
            axes.plot(score.interval, [row, row], color=INK, linewidth=1.3, marker="|", markersize=7)
        weight = "bold" if name == "adapter" else "normal"
        end = max(score.value, *score.ends)
        axes.text(end + 0.02, row, f"{score.value:.1%}", va="center", fontsize=9.5, fontweight=weight)
    axes.set_yticks(range(len(scores)), [_short(name) for name in scores])
    axes.set_ylim(len(scores) - 0.5, -0.5)
    axes.set_xlim(0, 1.26)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100%"])
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)


def places_plot(evaluation: Evaluation, path: Path) -> bool:
    """Draw how many rows of `test` have the right answer at which places of the adapter's ranking, as PNG."""
    test = evaluation.test
    if test is None or not any(place.rows for place in test.places):
        return False
    with new_figure(1.0 + 0.27 * len(test.places)) as figure:
        axes = figure.add_subplot()
        colours = [BLUE if place.first == place.to == 1 else GREY for place in test.places]
        counts = [(place.label, place.rows, place.counted) for place in test.places]
        _draw_counts(axes, counts, colours)
        title = f"descriptions by the place of the right name among {evaluation.candidates:,}"
        axes.set_title(title, fontsize=10, loc="left")
        save(figure, path)
    return True


def _draw_counts(axes: Axes, counted: Sequence[tuple[str, float, str]], colours: Sequence[str]) -> None:
    """A bar for each name and count, with what is written of the count at its end in place of a scale."""
    names, counts, written = zip(*counted, strict=True)
    axes.barh(range(len(counts)), counts, height=0.66, color=colours)
    for row, (count, text) in enumerate(zip(counts, written, strict=True)):
        axes.text(count + max(counts) * 0.012, row, text, va="center", fontsize=9)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, max(counts) * 1.1)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    axes.spines["bottom"].set_visible(False)


def told_places(evaluation: Evaluation) -> str | None:
    """How many rows have the right answer at which places."""
    places = evaluation.test.places if evaluation.test else []
    if not any(place.rows for place in places):
        return None
    shown = ", ".join(f"{place.label}: {place.counted}" for place in places)
    return f"Bars of how many descriptions have the right name at which places of the ranking: {shown}"


def calibration_plot(evaluation: Evaluation, path: Path) -> bool:
    """Draw how often the first name is right by how probable it was said to be, as PNG."""
    bins = _bins(evaluation)
    if not bins:
        return False
    with new_figure(2.9) as figure:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1.2, linestyle="--", label="perfect calibration")
        points = [(one.confidence or 0.0, one.accuracy or 0.0) for one in bins]
        axes.plot(*zip(*points, strict=True), color=BLUE, marker="o", markersize=5, label="this adapter")
        for one, (_, right) in zip(bins, points, strict=True):
            axes.plot([one.low, one.high], [right, right], color=BLUE, linewidth=1.2, alpha=0.5)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel("probability of the first name")
        axes.set_ylabel("how often it is right")
        axes.grid(color=FAINT, linewidth=0.6)
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.98), ncols=2, borderaxespad=0)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:.0%}")
        save(figure, path)
    return True


def told_calibration(evaluation: Evaluation) -> str | None:
    """How often the first name is right in each range of its probability."""
    bins = _bins(evaluation)
    shown = (f"said {one.confidence:.0%}, right {one.accuracy:.0%} ({one.rows:,} rows)" for one in bins)
    return f"Curve of how often the first name is right: {'; '.join(shown)}" if bins else None


def _bins(evaluation: Evaluation) -> Sequence[Bin]:
    calibration = evaluation.test.calibration if evaluation.test else None
    bins = calibration.bins if calibration else []
    return [one for one in bins if one.rows and one.confidence is not None and one.accuracy is not None]


def confusions_plot(evaluation: Evaluation, path: Path) -> bool:
    """Draw the most frequent wrong first answers, as PNG; not when most of them are in letters that the font lacks."""
    confusions = evaluation.test.confusions if evaluation.test else []
    if told_confusions(evaluation) is None:
        return False
    with new_figure(0.7 + 0.27 * len(confusions)) as figure:
        axes = figure.add_subplot()
        counts = [
            (f"{label(one.answer, LONGEST)} → {label(one.said, LONGEST)}", one.rows, f"{one.rows:,}")
            for one in confusions
        ]
        _draw_counts(axes, counts, [GREY] * len(counts))
        axes.set_title("right name → what came first", fontsize=10, loc="left")
        save(figure, path)
    return True


def told_confusions(evaluation: Evaluation) -> str | None:
    """The most frequent wrong first answers; None where a figure would say nothing: each once, or no letters for it."""
    confusions = evaluation.test.confusions if evaluation.test else []
    if all(one.rows < 2 for one in confusions) or not all(drawable(one.answer + one.said) for one in confusions):
        return None
    shown = ", ".join(
        f"{label(one.answer, LONGEST)} taken for {label(one.said, LONGEST)}: {one.rows}" for one in confusions
    )
    return f"Bars of the most frequent mistakes: {shown}"
