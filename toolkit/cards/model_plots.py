"""Plots of an adapter: the losses of its training, and of `test` the accuracy, ranks, calibration and mistakes.

Each plot has a function that puts it into words, with numbers, for readers who cannot see it, and that returns None if
there is nothing to draw; and a function that draws it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from toolkit.cards.labels import SHORT_LABELS
from toolkit.cards.metadata import JsonObject, public_name
from toolkit.cards.model_facts import measured_methods
from toolkit.cards.plot_style import BLUE, FAINT, GREY, INK, ORANGE, drawable, label, name_bars, new_figure, save
from toolkit.core.results import Bin, Evaluation, Score, TestSplit, format_estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Log = Sequence[JsonObject]
Points = list[tuple[float, float]]

# Small panels below the losses, by their key in the log.
SMALL_PANELS = {"learning_rate": "learning\nrate", "grad_norm": "gradient\nnorm"}
COLOURS = {"shuffled": ORANGE}
MEASURES = {"top1": "Top-1: the right name is first", "top5": "Top-5: it is among the first five"}
LONGEST = 26
# Runs of a sweep that a plot shows, and letters of their names.
MOST_RUNS, LONGEST_RUN = 30, 44


def plots_in_words(log: Log, evaluation: Evaluation | None) -> dict[str, str | None]:
    """Every plot in words, by the name of its file; None for one that there is nothing to draw of."""
    test = evaluation.test if evaluation else None
    return {"loss": loss_in_words(log), **{name: words(test) if test else None for name, (words, _) in PLOTS.items()}}


def draw_plots(log: Log, evaluation: Evaluation | None, folder: Path) -> None:
    """Draw all plots that there is something to draw of, as PNG; those of an earlier evaluation do not stay."""
    for name, words in plots_in_words(log, evaluation).items():
        path = folder / f"{name}.png"
        path.unlink(missing_ok=True)
        if words and name == "loss":
            loss_plot(log, path)
        elif words and evaluation and evaluation.test:
            PLOTS[name][1](evaluation.test, evaluation.candidates, path)


def loss_in_words(log: Log) -> str | None:
    """The course of the losses in one sentence."""
    words = [
        f"{name} from {points[0][1]:.2f} at step {points[0][0]:,} to {points[-1][1]:.2f} at step {points[-1][0]:,}"
        for name, key in (("training loss", "loss"), ("validation loss", "validation_loss"))
        if (points := _series(log, key))
    ]
    return f"Curves over optimiser steps: {', '.join(words)}" if words else None


def loss_plot(log: Log, path: Path) -> None:
    """Draw training and validation loss over optimiser steps, with learning rate and gradient norm below."""
    from matplotlib.ticker import MaxNLocator

    small = [(points, label) for key, label in SMALL_PANELS.items() if (points := _series(log, key))]
    with new_figure(2.9 + 0.7 * len(small)) as figure:
        grid = figure.add_gridspec(1 + len(small), 1, height_ratios=[4] + [1] * len(small))
        axes = figure.add_subplot(grid[0])
        _draw_losses(axes, _series(log, "loss"), _series(log, "validation_loss"))
        for row, (points, label) in enumerate(small, 1):
            axes.tick_params(labelbottom=False)
            axes = figure.add_subplot(grid[row], sharex=axes)
            _draw_small(axes, points, label)
        axes.set_xlim(0, max(row["step"] for row in log) * 1.02)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("optimiser step")
        figure.align_ylabels()
        save(figure, path)


def _series(log: Log, key: str) -> Points:
    return [(row["step"], row[key]) for row in log if row.get(key) is not None]


def _draw_losses(axes: Axes, training: Points, validation: Points) -> None:
    if training:
        axes.plot(*zip(*training, strict=True), color=BLUE, marker=_marker(training), markersize=3.5, label="training")
    if validation:
        axes.plot(
            *zip(*validation, strict=True), color=ORANGE, marker="s", markersize=4.5, linestyle="--", label="validation"
        )
        if len(validation) > 1:
            best = min(validation, key=lambda point: point[1])
            axes.plot(*best, color=ORANGE, marker="o", markersize=10, fillstyle="none", linestyle="", label="lowest")
    axes.set_ylim(bottom=0, top=max(value for _, value in training + validation) * 1.08 or 1)
    axes.set_ylabel("loss (nats a token)")
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    # Above the axes, where no curve can run into it.
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.98), ncols=3, borderaxespad=0)


def _draw_small(axes: Axes, points: Points, label: str) -> None:
    axes.plot(*zip(*points, strict=True), color=GREY, marker=_marker(points), markersize=3)
    top = max(value for _, value in points) or 1
    axes.set_ylim(0, top * 1.2)
    axes.set_yticks([0, top], ["0", f"{top:.3g}"])
    axes.set_ylabel(label, fontsize=9)


def _marker(points: Points) -> str:
    """Single points are invisible without a marker; many markers hide the line."""
    return "o" if len(points) <= 30 else ""


def accuracy_in_words(test: TestSplit) -> str | None:
    """Top-1 and top-5 of every method."""
    methods = measured_methods(test)
    if not any(measure in figures for figures in methods.values() for measure in MEASURES):
        return None
    shown = (
        f"{_short(name)} "
        + " and ".join(f"{figures[key].value:.1%}" if key in figures else "not measured" for key in MEASURES)
        for name, figures in methods.items()
    )
    return f"Bars of top-1 and top-5 accuracy: {'; '.join(shown)}"


def accuracy_plot(test: TestSplit, _: int, path: Path) -> None:
    """Draw top-1 and top-5 accuracy of every method, with 95 % intervals as whiskers."""
    methods = measured_methods(test)
    panels = [measure for measure in MEASURES if any(measure in figures for figures in methods.values())]
    with new_figure(0.95 + 0.34 * len(methods)) as figure:
        for index, measure in enumerate(panels):
            axes = figure.add_subplot(1, len(panels), index + 1)
            _draw_bars(axes, {name: figures.get(measure) for name, figures in methods.items()})
            axes.set_title(MEASURES[measure], fontsize=10, loc="left")
            if index:
                axes.tick_params(labelleft=False)
        save(figure, path)


def _short(name: str) -> str:
    return SHORT_LABELS.get(name) or label(public_name(name), LONGEST)


def sweep_plot(scores: Mapping[str, Score | None], title: str, path: Path) -> None:
    """Draw a score of every run of a sweep, the best first, with 95 % intervals as whiskers; None for a failed one."""
    shown = dict(list(scores.items())[:MOST_RUNS])
    with new_figure(0.95 + 0.34 * len(shown)) as figure:
        axes = figure.add_subplot()
        _draw_bars(axes, shown, next(iter(shown)), "plain", "failed")
        axes.set_yticks(range(len(shown)), [label(name, LONGEST_RUN) for name in shown])
        more = len(scores) - len(shown)
        axes.set_title(title + (f"; {more:,} more are not shown" if more else ""), fontsize=10, loc="left")
        save(figure, path)


def _draw_bars(
    axes: Axes,
    scores: Mapping[str, Score | None],
    best: str = "adapter",
    unit: Literal["share", "plain"] = "share",
    absent: str = "not measured",
) -> None:
    for row, (name, score) in enumerate(scores.items()):
        if score is None:
            axes.text(0.01, row, absent, va="center", fontsize=9)
            continue
        axes.barh(row, score.value, height=0.62, color=BLUE if name == best else COLOURS.get(name, GREY))
        if score.interval is not None:
            axes.plot(score.interval, [row, row], color=INK, linewidth=1.3, marker="|", markersize=7)
        weight = "bold" if name == best else "normal"
        end, text = max(score.value, *score.ends), format_estimate(Score(value=score.value), unit) or ""
        axes.text(end + 0.02, row, text, va="center", fontsize=9.5, fontweight=weight)
    axes.set_yticks(range(len(scores)), [_short(name) for name in scores])
    axes.set_ylim(len(scores) - 0.5, -0.5)
    axes.set_xlim(0, 1.26)
    marks = ["0", "25", "50", "75", "100%"] if unit == "share" else ["0", "0.25", "0.5", "0.75", "1"]
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], marks)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)


def ranks_in_words(test: TestSplit) -> str | None:
    """How many rows have the right answer at which ranks."""
    if not any(place.rows for place in test.places):
        return None
    shown = ", ".join(f"{place.label}: {place.counted}" for place in test.places)
    return f"Bars of how many descriptions have the right name at which places of the ranking: {shown}"


def ranks_plot(test: TestSplit, candidates: int, path: Path) -> None:
    """Draw how many rows have the right answer at which ranks."""
    with new_figure(1.0 + 0.27 * len(test.places)) as figure:
        axes = figure.add_subplot()
        colours = [BLUE if place.first == place.to == 1 else GREY for place in test.places]
        _draw_counts(axes, [(place.label, place.rows, place.counted) for place in test.places], colours)
        axes.set_title(f"descriptions by the place of the right name among {candidates:,}", fontsize=10, loc="left")
        save(figure, path)


def _draw_counts(axes: Axes, counted: Sequence[tuple[str, float, str]], colours: Sequence[str]) -> None:
    """A bar for each name and count, with the count as text at its end in place of a scale."""
    names, counts, texts = zip(*counted, strict=True)
    axes.barh(range(len(counts)), counts, height=0.66, color=colours)
    name_bars(axes, names, counts, texts)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)


def calibration_in_words(test: TestSplit) -> str | None:
    """How often the first name is right in each range of its probability."""
    bins = _bins(test)
    shown = (f"said {one.confidence:.0%}, right {one.accuracy:.0%} ({one.rows:,} rows)" for one in bins)
    return f"Curve of how often the first name is right: {'; '.join(shown)}" if bins else None


def calibration_plot(test: TestSplit, _: int, path: Path) -> None:
    """Draw how often the first name is right by its probability."""
    bins = _bins(test)
    with new_figure(2.9) as figure:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1.2, linestyle="--", label="perfect calibration")
        points = [(one.confidence or 0.0, one.accuracy or 0.0) for one in bins]
        axes.plot(*zip(*points, strict=True), color=BLUE, marker="o", markersize=5, label="this model")
        for one, (_probability, right) in zip(bins, points, strict=True):
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


def _bins(test: TestSplit) -> list[Bin]:
    bins = test.calibration.bins if test.calibration else []
    return [one for one in bins if one.rows and one.confidence is not None and one.accuracy is not None]


def confusions_in_words(test: TestSplit) -> str | None:
    """The most frequent wrong first answers; None if each occurs once, or the font lacks their letters."""
    confusions = test.confusions
    if all(one.rows < 2 for one in confusions) or not all(drawable(one.answer + one.said) for one in confusions):
        return None
    shown = (f"{label(one.answer, LONGEST)} taken for {label(one.said, LONGEST)}: {one.rows}" for one in confusions)
    return f"Bars of the most frequent mistakes: {', '.join(shown)}"


def confusions_plot(test: TestSplit, _: int, path: Path) -> None:
    """Draw the most frequent wrong first answers."""
    with new_figure(0.7 + 0.27 * len(test.confusions)) as figure:
        axes = figure.add_subplot()
        counts = [
            (f"{label(one.answer, LONGEST)} → {label(one.said, LONGEST)}", one.rows, f"{one.rows:,}")
            for one in test.confusions
        ]
        _draw_counts(axes, counts, [GREY] * len(counts))
        axes.set_title("right name → what came first", fontsize=10, loc="left")
        save(figure, path)


# Plots of `test` by the name of their file: in words, and drawn among so many candidates.
PLOTS: dict[str, tuple[Callable[[TestSplit], str | None], Callable[[TestSplit, int, Path], None]]] = {
    "accuracy": (accuracy_in_words, accuracy_plot),
    "places": (ranks_in_words, ranks_plot),
    "calibration": (calibration_in_words, calibration_plot),
    "confusions": (confusions_in_words, confusions_plot),
}
