"""An evaluation on the terminal: the adapter beside its baselines, and what its figures rest on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Column, Table

from toolkit.cli.output.terminal import CONSOLE, as_json, say

LABELS = {
    "adapter": "this adapter",
    "base": "base without it",
    "tfidf": "TF-IDF neighbour",
    "tfidf_centroid": "TF-IDF centroid",
    "encoder": "sentence encoder",
    "frequent": "most frequent",
    "chance": "chance",
}
# `docs/metrics.md` says what each of them means.
INVENTED = {
    "invented": "invented",
    "new": "new",
    "different": "different",
    "varied": "varied",
    "likeness": "name-like",
    "memorised": "memorised",
    "well_formed": "well formed",
}
WIDEST_LABEL = 22


def evaluated(evaluation: Mapping[str, Any], json_wanted: bool) -> None:
    """An evaluation."""
    if json_wanted:
        as_json(evaluation)
        return
    figures(evaluation)


def figures(evaluation: Mapping[str, Any]) -> None:
    """The figures of an evaluation beside the baselines."""
    if evaluation["test"]:
        _identification(evaluation["test"], evaluation["candidates"])
    if evaluation["unseen"]:
        _invention(evaluation["unseen"])


def _identification(test: Mapping[str, Any], candidates: int) -> None:
    say(f"Known creatures, {test['rows']:,} descriptions never seen, {candidates:,} candidate names:")
    measures = ("top-1", "top-5", "MRR", "exact")
    columns = [Column(measure, justify="right", overflow="fold") for measure in measures]
    table = Table(Column(overflow="fold"), *columns, box=None, pad_edge=False)
    shuffled = test["shuffled"]
    shown = {_label(method): measured for method, measured in test["methods"].items()}
    if shuffled:
        shown["shuffled control"] = shuffled["figures"]
    for label, measured in shown.items():
        table.add_row(
            label,
            _percent(measured["top1"]),
            _percent(measured["top5"]),
            f"{measured['mrr']['value']:.3f}",
            f"{measured['exact']['value']:.1%}" if "exact" in measured else "",
        )
    CONSOLE.print(table)
    if shuffled and shuffled["reads"] is False:
        say("It does not read: with the descriptions of other creatures it does as well, or it is at chance.")
    for method, difference in test["differences"].items():
        say(f"  {_difference(difference['top1'])} top-1 than {_label(method)}")


def _difference(figure: Mapping[str, Any]) -> str:
    """A difference of two shares in points, with its interval."""
    more = "more" if figure["value"] >= 0 else "fewer"
    interval = f" ({100 * figure['low']:+.1f} to {100 * figure['high']:+.1f})" if "low" in figure else ""
    return f"{abs(100 * figure['value']):.1f} points {more}{interval}"


def _invention(unseen: Mapping[str, Any]) -> None:
    methods = unseen["methods"]
    names = methods["adapter"]["names"]
    say(f"Creatures never seen, {names:,} names for {unseen['rows']:,} descriptions:")
    columns = [Column(_label(method), justify="right", overflow="fold") for method in methods]
    table = Table(Column(overflow="fold"), *columns, box=None, pad_edge=False)
    measured = [key for key, value in methods["adapter"].items() if isinstance(value, Mapping)]
    for key in sorted(measured, key=lambda key: (list(INVENTED).index(key) if key in INVENTED else 99, key)):
        cells = [_percent(its[key]) if key in its else "" for its in methods.values()]
        table.add_row(INVENTED.get(key, key.replace("_", " ")), *cells)
    CONSOLE.print(table)


def _label(method: str) -> str:
    label = LABELS.get(method, method)
    return label if len(label) <= WIDEST_LABEL else f"…{label[1 - WIDEST_LABEL :]}"


def _percent(figure: Mapping[str, Any]) -> str:
    if "low" not in figure:
        return f"{figure['value']:.1%}"
    return f"{figure['value']:.1%} ({figure['low']:.0%}–{figure['high']:.0%})"
