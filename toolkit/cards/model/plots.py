"""Figures of a run, from its own files. Knows nothing of cards.

Each is drawn or not by what there is to see, and `told_figures` says what that is, for those who can not see it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.cards.model import evaluation_plots
from toolkit.cards.plot_style import BLUE, FAINT, GREY, ORANGE, new_figure, save
from toolkit.core.results import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What is drawn small below the losses, by its key in the log.
SMALL_PANELS = {"learning_rate": "learning\nrate", "grad_norm": "gradient\nnorm"}


Log = Sequence[dict[str, Any]]
# Figures of `test` by the name of their file: what is to be seen, and how it is drawn.
EVALUATION: dict[str, tuple[Callable[[Evaluation], str | None], Callable[[Evaluation, Path], bool]]] = {
    "accuracy": (evaluation_plots.told_accuracy, evaluation_plots.accuracy_plot),
    "places": (evaluation_plots.told_places, evaluation_plots.places_plot),
    "calibration": (evaluation_plots.told_calibration, evaluation_plots.calibration_plot),
    "confusions": (evaluation_plots.told_confusions, evaluation_plots.confusions_plot),
}


def told_figures(log: Log, evaluation: Evaluation | None) -> dict[str, str | None]:
    """What is to be seen in each figure, with numbers; None for one that there is nothing to draw of."""
    measured = {name: told(evaluation) if evaluation else None for name, (told, _) in EVALUATION.items()}
    return {"loss": told_loss(log), **measured}


def draw_figures(log: Log, evaluation: Evaluation | None, folder: Path) -> None:
    """Draw all figures that there is something to draw of, as PNG; one of an earlier evaluation does not outlive it."""
    for name in ("loss", *EVALUATION):
        (folder / f"{name}.png").unlink(missing_ok=True)
    loss_plot(log, folder / "loss.png")
    if evaluation is not None:
        for name, (_, draw) in EVALUATION.items():
            draw(evaluation, folder / f"{name}.png")


def told_loss(log: Log) -> str | None:
    """The course of the losses in one sentence."""
    training, validation = _series(log, "loss"), _series(log, "validation_loss")
    told = [
        f"{name} from {points[0][1]:.2f} at step {points[0][0]:,} to {points[-1][1]:.2f} at step {points[-1][0]:,}"
        for name, points in (("training loss", training), ("validation loss", validation))
        if points
    ]
    return f"Curves over optimiser steps: {', '.join(told)}" if told else None


def loss_plot(log: Log, path: Path) -> bool:
    """Draw training and validation loss over optimiser steps as PNG, with learning rate and gradient norm below.

    Args:
        log: Rows of `training_log.jsonl`.
        path: File to write.

    Returns:
        Whether there was anything to draw; without it, no file is written.
    """
    from matplotlib.ticker import MaxNLocator

    training, validation = _series(log, "loss"), _series(log, "validation_loss")
    if not training and not validation:
        return False
    small = [(points, label) for key, label in SMALL_PANELS.items() if (points := _series(log, key))]
    with new_figure(2.9 + 0.7 * len(small)) as figure:
        grid = figure.add_gridspec(1 + len(small), 1, height_ratios=[4] + [1] * len(small))
        axes = figure.add_subplot(grid[0])
        _draw_losses(axes, training, validation)
        for row, (points, label) in enumerate(small, 1):
            axes.tick_params(labelbottom=False)
            axes = figure.add_subplot(grid[row], sharex=axes)
            _draw_small(axes, points, label)
        axes.set_xlim(0, max(row["step"] for row in log) * 1.02)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("optimiser step")
        figure.align_ylabels()
        save(figure, path)
    return True


def _series(log: Sequence[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(row["step"], row[key]) for row in log if row.get(key) is not None]


def _draw_losses(axes: Axes, training: list[tuple[float, float]], validation: list[tuple[float, float]]) -> None:
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


def _draw_small(axes: Axes, points: list[tuple[float, float]], label: str) -> None:
    axes.plot(*zip(*points, strict=True), color=GREY, marker=_marker(points), markersize=3)
    top = max(value for _, value in points) or 1
    axes.set_ylim(0, top * 1.2)
    axes.set_yticks([0, top], ["0", f"{top:.3g}"])
    axes.set_ylabel(label, fontsize=9)


def _marker(points: list[tuple[float, float]]) -> str:
    """Single points are invisible without a marker; many of them hide the line."""
    return "o" if len(points) <= 30 else ""
