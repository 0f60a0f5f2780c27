"""The dataset card: counts and the build's facts in, `README.md` and its plots out.

The plots show the lengths of descriptions and how rows are spread. Each function that draws one returns it in words
with numbers, as alternative text; None if there is too little to draw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolkit import __version__
from toolkit.cards import dataset_facts, usage
from toolkit.cards.dataset_facts import DatasetCounts, Facts
from toolkit.cards.escape import fence, md_text
from toolkit.cards.labels import ANSWERS, LANGUAGES
from toolkit.cards.metadata import Manifest, asked_in_korean, benchmark, dataset_front_matter
from toolkit.cards.plot_style import BLUE, FAINT, GREEN, GREY, INK, ORANGE, name_bars, new_figure, save
from toolkit.cards.templates import DATASET, render
from toolkit.core.folder import read_json
from toolkit.core.layout import BENCHMARK, CARD, FIGURES, SPLITS, VALIDATION, split_files

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEMPLATE = "dataset_card.md.jinja"
EXAMPLE_CHARACTERS = 2_000
Ints = NDArray[np.integer[Any]]
COLOURS = dict(zip(SPLITS, (BLUE, GREY, ORANGE, GREEN), strict=True))
WIDTHS = tuple(factor * 10**power for power in range(8) for factor in (1, 2, 5))
MOST_BINS, MOST_BARS = 40, 20
# If a few values would squeeze the others to less than two thirds of the width, the last bar takes them.
TAIL, SQUEEZED = 99.5, 1.5


def render_dataset_card(folder: Path, counts: DatasetCounts, facts: Manifest) -> None:
    """Draw the plots, write `README.md` and `eval.yaml` of a dataset; InputError for a damaged `validation.json`.

    `facts` are those of the build, as `manifest.json` will hold them, with the `content` hash of the rows,
    `min_clusters`, the fewest groups that a split is dealt from, and the one `request` of all rows, None for several.
    """
    plots: dict[str, str | None] = {}
    for name in ("lengths", "rows"):
        path = folder / FIGURES / f"{name}.png"
        # Remove a plot of earlier rows.
        path.unlink(missing_ok=True)
        seen = lengths_plot(counts.whole().lengths, path) if name == "lengths" else rows_plot(counts, path)
        plots[name] = md_text(seen) if seen else None
    card = render(TEMPLATE, {**_card_facts(folder, facts, counts), "figures": plots}, package=DATASET)
    (folder / CARD).write_text(card, encoding="utf-8")
    (folder / BENCHMARK).unlink(missing_ok=True)
    if facts["request"] and "test" in counts.splits:
        text = benchmark(_title(facts), facts["request"], facts["settings"].get("system"))
        (folder / BENCHMARK).write_text(text, encoding="utf-8")


def _card_facts(folder: Path, facts: Manifest, counts: DatasetCounts) -> Facts:
    """All that the card says, apart from its plots."""
    title = _title(facts)
    rows = {name: split.rows for name, split in counts.splits.items()}
    validation = folder / VALIDATION
    return {
        "front_matter": dataset_front_matter(facts, rows, list(counts.languages), title),
        "title": title,
        "pokemon": facts["pokemon"],
        "asked_in_korean": asked_in_korean(facts["settings"]["request"]),
        "content": dataset_facts.content_facts(counts),
        "answer": dict(zip(("english", "korean"), ANSWERS[facts["settings"]["answer"]], strict=True)),
        "example": _example(folder),
        "sources": dataset_facts.source_facts(facts["sources"], counts),
        "making": dataset_facts.making_facts(facts, counts),
        "held_out": dataset_facts.held_out_facts(counts),
        "validation": dataset_facts.validation_facts(read_json(validation) if validation.is_file() else None),
        "licenses": dataset_facts.license_facts(counts.licenses),
        "citation": fence(usage.dataset_citation(facts, title), "bibtex"),
        "toolkit": __version__,
    }


def _title(facts: Manifest) -> str:
    return "Pokémon names from descriptions" if facts["pokemon"] else "Names from descriptions"


def _example(folder: Path) -> str:
    """The first row of train as a fenced conversation."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(split_files(folder, folder.name)["train"][0]) as file:
        (first,) = next(file.iter_batches(1, columns=["messages"]))["messages"].to_pylist()
    return fence("\n\n".join(f"{turn['role']}:\n{turn['content'][:EXAMPLE_CHARACTERS]}" for turn in first), "text")


# The plots.


def lengths_plot(lengths: Mapping[str, Ints], path: Path) -> str | None:
    """Draw a histogram of the descriptions' lengths in characters for each language, as PNG."""
    shown = {LANGUAGES[code][0]: lengths[code] for code in LANGUAGES if code in lengths}
    edges = _edges(np.concatenate(list(shown.values()))) if shown else []
    shown = {name: values for name, values in shown.items() if _bars(values, edges) > 1}
    if not shown:
        return None
    with new_figure(0.9 + 1.6 * len(shown)) as figure:
        panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (name, values) in zip(panels, shown.items(), strict=True):
            _draw_histogram(axes, values, edges)
            axes.set_title(f"{name}: {len(values):,} descriptions", fontsize=10, loc="left")
            axes.set_ylabel("descriptions")
        panels[-1].set_xlabel(f"characters of a description{_tail(list(shown.values()), edges)}")
        save(figure, path)
    words = "; ".join(f"{name} {_in_words(values)}" for name, values in shown.items())
    return f"Histogram of the descriptions' lengths in characters: {words}."


def rows_plot(counts: DatasetCounts, path: Path) -> str | None:
    """Draw how the rows are spread, as PNG: by generation, else source, else type, else rows of each creature."""
    rows = counts.rows
    for kind in ("generation", "source", "type"):
        by_label = counts.labels.get(kind, Counter())
        labels = _ordered(by_label)
        if 1 < len(labels) <= MOST_BARS and by_label.total() * 2 > rows:
            if rows > by_label.total():
                labels.append("not known")
                known = {name: sum(rows for (_, of), rows in by_label.items() if of == name) for name in counts.splits}
                missing = {("not known", name): each.rows - known[name] for name, each in counts.splits.items()}
                by_label = by_label + Counter(missing)
            return _bars_plot(by_label, labels, kind, path)
    return _creatures_plot(np.array(list(counts.whole().creatures.values())), path)


def _ordered(by_label: Mapping[tuple[str, str], int]) -> list[str]:
    """Numbers in their order, else the most frequent first."""
    totals: Counter[str] = Counter()
    for (label, _), rows in by_label.items():
        totals[label] += rows
    if all(map(str.isdecimal, totals)):
        return sorted(totals, key=int)
    return sorted(totals, key=lambda label: (-totals[label], label))


def _bars_plot(by_label: Mapping[tuple[str, str], int], labels: Sequence[str], kind: str, path: Path) -> str:
    splits = [split for split in SPLITS if any(of == split for _, of in by_label)]
    totals = [sum(by_label.get((label, split), 0) for split in splits) for label in labels]
    with new_figure(1.0 + 0.27 * len(labels)) as figure:
        axes = figure.add_subplot()
        left = np.zeros(len(labels))
        for split in splits:
            widths = [by_label.get((label, split), 0) for label in labels]
            axes.barh(range(len(labels)), widths, left=left, height=0.7, color=COLOURS[split], label=split)
            left += widths
        name_bars(axes, labels, totals, [f"{total:,}" for total in totals])
        axes.set_ylabel(kind if kind != "type" else "first type")
        axes.set_xlabel("rows")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(axis="x", color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=4, borderaxespad=0)
        save(figure, path)
    words = ", ".join(f"{label} ({total:,})" for label, total in zip(labels, totals, strict=True))
    return f"Bars of the rows by {kind}, stacked by split: {words}."


def _creatures_plot(rows: Ints, path: Path) -> str | None:
    edges = _edges(rows)
    if _bars(rows, edges) < 2:
        return None
    with new_figure(2.5) as figure:
        axes = figure.add_subplot()
        _draw_histogram(axes, rows, edges)
        axes.set_ylabel("creatures")
        axes.set_xlabel(f"rows of a creature{_tail([rows], edges)}")
        save(figure, path)
    return f"Histogram of the rows of each creature: {_in_words(rows)}."


def _edges(values: Ints) -> list[int]:
    """Limits of bars of a round width, which hold all values or, if a few are far off, most of them."""
    if not len(values):
        return []
    low, high, most = int(values.min()), int(values.max()), int(np.percentile(values, TAIL, method="lower"))
    if high - low > SQUEEZED * (most - low) > 0:
        high = most
    width = next(width for width in WIDTHS if (high - low) / width <= MOST_BINS)
    start = low // width * width
    return list(range(start, high + width + 1, width))


def _bars(values: Ints, edges: Sequence[int]) -> int:
    """How many bars of a histogram are not empty."""
    return int(np.count_nonzero(_heights(values, edges))) if len(edges) > 1 else 0


def _heights(values: Ints, edges: Sequence[int]) -> Ints:
    return np.histogram(np.minimum(values, edges[-1] - 1), edges)[0]


def _draw_histogram(axes: Axes, values: Ints, edges: Sequence[int]) -> None:
    from matplotlib.ticker import MaxNLocator

    width, median = edges[1] - edges[0], float(np.median(values))
    # A count stands above its own tick when bars are one wide.
    shift = 0.5 if width == 1 else 0.0
    places = [edge - shift for edge in edges[:-1]]
    axes.bar(places, _heights(values, edges), width=width * 0.92, align="edge", color=BLUE)
    axes.axvline(median, color=INK, linewidth=1.2, linestyle="--", label=f"median {median:,.0f}")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.98), borderaxespad=0)


def _tail(groups: Sequence[Ints], edges: Sequence[int]) -> str:
    """A remark on the last bar, if it holds longer ones too."""
    over = any(int(values.max()) >= edges[-1] for values in groups)
    return f" (last bar: {edges[-2]:,} and more)" if over else ""


def _in_words(values: Ints) -> str:
    low, quarter, median, three, high = (f"{np.percentile(values, share):,.0f}" for share in (0, 25, 50, 75, 100))
    return f"from {low} to {high}, half of them from {quarter} to {three}, median {median}"
