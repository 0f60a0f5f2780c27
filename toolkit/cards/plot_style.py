"""The look that all plots share: colours, width, and files of the same bytes.

Same input, same bytes: no global state of matplotlib, no user's style, no version or time in the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.cards.escape import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with every kind of colour vision.
BLUE, ORANGE, GREEN, GREY, INK, FAINT = "#0072B2", "#D55E00", "#009E73", "#9AA5B1", "#24292F", "#D0D7DE"
# 7 inches at 200 dots an inch: sharp at 700 CSS pixels on dense screens, where 10 points are 14 pixels.
WIDTH, DPI = 7.0, 200
STYLE = {
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": INK,
    "ytick.color": INK,
    # A dollar in a name does not begin a formula.
    "text.parse_math": False,
}


@contextmanager
def new_figure(height: float) -> Iterator[Figure]:
    """Yield a white figure of the card's width, `height` inches high, in matplotlib's own style, not the user's."""
    from matplotlib import style
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with style.context(["default", STYLE]):
        layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
        yield Figure(figsize=(WIDTH, height), dpi=DPI, layout=layout, facecolor="white")


def drawable(text: str) -> bool:
    """Whether the plots' font has all letters of a text; it has none of Hangul, so that no font need be shipped."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    return all(font.get_char_index(ord(char)) for char in plain(text))


def label(text: str, limit: int) -> str:
    """A foreign text as a label: one line of at most `limit` characters, with `?` for letters that the font lacks."""
    return "".join(char if drawable(char) else "?" for char in plain(text, limit)) or "?"


def name_bars(axes: Axes, names: Sequence[str], counts: Sequence[float], texts: Sequence[str]) -> None:
    """Name horizontal bars at their left, from the top down, with each count as text at the end of its bar."""
    for row, (count, text) in enumerate(zip(counts, texts, strict=True)):
        axes.text(count + max(counts) * 0.012, row, text, va="center", fontsize=9)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, max(counts) * 1.1)
    axes.tick_params(axis="y", length=0)


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG; the folder is made."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", metadata={"Software": None})
