"""Figures of a run, from its own files: loss, and accuracy beside what it has to beat. Knows nothing of cards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.drawing import BLUE, FAINT, GREY, INK, ORANGE, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METHODS = {"adapter": "this adapter", "base": "base alone", "tfidf": "TF-IDF", "chance": "chance"}
MEASURES = {"top1": "Top-1: the right name is first", "top5": "Top-5: it is among the first five"}
# What is drawn small below the losses, by its key in the log.
SMALL_PANELS = {"learning_rate": "learning\nrate", "grad_norm": "gradient\nnorm"}


def loss_plot(log: Sequence[dict[str, Any]], path: Path) -> bool:
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


def accuracy_plot(evaluation: dict[str, Any], path: Path) -> bool:
    """Draw top-1 and top-5 accuracy of every measured method, with 95 % intervals as whiskers, as PNG.

    Args:
        evaluation: What `evaluation.json` holds.
        path: File to write.

    Returns:
        Whether the test split was measured; if not, no file is written.
    """
    methods = (evaluation.get("test") or {}).get("methods") or {}
    names = ordered_methods(methods)
    panels = [measure for measure in MEASURES if any(measure in methods[name] for name in names)]
    if not panels:
        return False
    with new_figure(0.95 + 0.38 * len(names)) as figure:
        for index, measure in enumerate(panels):
            axes = figure.add_subplot(1, len(panels), index + 1)
            _draw_bars(axes, [methods[name].get(measure) for name in names], names)
            axes.set_title(MEASURES[measure], fontsize=10, loc="left")
            if index:
                axes.tick_params(labelleft=False)
        save(figure, path)
    return True


def ordered_methods(methods: dict[str, Any]) -> list[str]:
    """The methods in the order in which readers compare them; those that this module does not know come last."""
    return [*(name for name in METHODS if name in methods), *sorted(set(methods) - set(METHODS))]


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


def _draw_bars(axes: Axes, scores: list[dict[str, Any] | None], names: list[str]) -> None:
    for row, (score, name) in enumerate(zip(scores, names, strict=True)):
        if score is None:
            axes.text(0.01, row, "not measured", va="center", fontsize=9)
            continue
        value, low, high = score["value"], score.get("low"), score.get("high")
        axes.barh(row, value, height=0.62, color=BLUE if name == "adapter" else GREY)
        if low is not None and high is not None:
            axes.plot([low, high], [row, row], color=INK, linewidth=1.3, marker="|", markersize=7)
        end = max(value, high or 0)
        weight = "bold" if name == "adapter" else "normal"
        axes.text(end + 0.02, row, f"{value:.1%}", va="center", fontsize=9.5, fontweight=weight)
    axes.set_yticks(range(len(names)), [METHODS.get(name, name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1.26)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100%"])
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
