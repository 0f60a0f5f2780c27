"""What a model card says of an evaluation: figures beside baselines, verdicts, the control. Knows nothing of templates.

Facts are ready values: escaped text, formatted numbers, booleans. What was not measured is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolkit.cards.escape import md_cell
from toolkit.cards.labels import CHEAP, EXPLAINED, GROUPS, INVENTION, LABELS, METHODS, ordered_methods
from toolkit.cards.model.metadata import public_name
from toolkit.core.format import number
from toolkit.core.results import Calibration, Evaluation, Score, Test, Unseen

NAME_LENGTH = 48
# One that no line breaks at, so that an interval stays whole in a narrow column.
SPACE = "\u00a0"


def figure(score: Score | None, *, plain: bool = False) -> str | None:
    """A share with its interval, `31.0% (24.0, 39.0)`; plain figures as `0.310 (0.240, 0.390)`."""
    if score is None:
        return None
    scale, form = (1, ".3f") if plain else (100, ".1f")
    value = f"{score.value:.3f}" if plain else f"{score.value:.1%}"
    if score.interval is None:
        return value
    low, high = (f"{end * scale:{form}}" for end in score.interval)
    return f"{value} ({low},{SPACE}{high})"


def test_facts(evaluation: Evaluation, language: str) -> dict[str, Any] | None:
    """The figures of `test`: a row for each method, a verdict on each comparison, the control, and what is folded."""
    test = evaluation.test
    if test is None or not test.methods:
        return None
    measured = dict(test.methods)
    order = ordered_methods(measured)
    if test.shuffled is not None:
        measured["shuffled"] = test.shuffled.figures
        order.insert(order.index("adapter") + 1 if "adapter" in order else 0, "shuffled")
    verdicts = [_verdict(name, test, language) for name in order if name not in ("adapter", "shuffled")]
    return {
        "rows": number(test.rows),
        "creatures": number(test.creatures),
        "has_exact": any("exact" in figures for figures in test.methods.values()),
        "methods": [_method(name, measured[name], test, language) for name in order],
        "verdicts": [verdict for verdict in verdicts if verdict],
        "cheaper_wins": any(verdict["cheap"] and verdict["relation"] == "worse" for verdict in verdicts if verdict),
        "control": _control(test),
        "groups": _groups(test, language),
        "places": [_place(test, index) for index in range(len(test.places))],
        "confusions": [
            {"answer": md_cell(one.answer, 60), "said": md_cell(one.said, 60), "rows": number(one.rows)}
            for one in test.confusions
            if test.confusions[0].rows > 1
        ],
        "calibration": _calibration(test.calibration) if test.calibration else None,
    }


def _label(name: str, language: str) -> str:
    return LABELS[language].get(name) or md_cell(public_name(name), NAME_LENGTH)


def _method(name: str, figures: Mapping[str, Score], test: Test, language: str) -> dict[str, Any]:
    return {
        "name": md_cell(name, NAME_LENGTH),
        "label": _label(name, language),
        "explained": EXPLAINED[language].get(name),
        "is_adapter": name == "adapter",
        **{measure: figure(figures.get(measure)) for measure in ("top1", "top5", "exact")},
        "mrr": f"{figures['mrr'].value:.3f}" if "mrr" in figures else None,
        "difference": points(_difference(name, test)),
    }


def _difference(name: str, test: Test) -> Score | None:
    """Top-1 of the adapter minus that of another method, as it was measured row by row."""
    if name == "shuffled":
        return test.shuffled.difference.get("top1") if test.shuffled else None
    return test.differences.get(name, {}).get("top1")


def points(score: Score | None) -> str | None:
    """A difference of two shares in percentage points: `+12.0 (+3.1, +20.9)`."""
    if score is None:
        return None
    if score.interval is None:
        return f"{score.value * 100:+.1f}"
    low, high = (f"{end * 100:+.1f}" for end in score.interval)
    return f"{score.value * 100:+.1f} ({low},{SPACE}{high})"


def _verdict(name: str, test: Test, language: str) -> dict[str, Any] | None:
    """How the adapter compares with another method; None where one of them has no top-1."""
    adapter, other = test.methods.get("adapter", {}).get("top1"), test.methods[name].get("top1")
    if adapter is None or other is None:
        return None
    difference = _difference(name, test)
    return {
        "name": name if name in METHODS else "other",
        "label": _label(name, language),
        "explained": EXPLAINED[language].get(name),
        "cheap": name in CHEAP,
        "relation": paired(difference) if difference is not None else compared(adapter, other),
        "adapter": f"{adapter.value:.1%}",
        "other": f"{other.value:.1%}",
        "difference": points(difference),
    }


def paired(difference: Score) -> str:
    """`better` or `worse` when the interval of a difference lies on one side of nothing, else `unclear`."""
    if difference.interval is None:
        return "unclear"
    low, high = difference.interval
    return "better" if low > 0 else "worse" if high < 0 else "unclear"


def compared(adapter: Score, other: Score) -> str:
    """`better` or `worse` when two 95 % intervals are apart, else `unclear`; a value without interval is exact."""
    (low, high), (other_low, other_high) = adapter.ends, other.ends
    return "better" if low > other_high else "worse" if high < other_low else "unclear"


def _control(test: Test) -> dict[str, Any] | None:
    """Whether the adapter reads the description: the mean of 1 / place, with the right descriptions and with others."""
    shuffled, adapter = test.shuffled, test.methods.get("adapter", {}).get("mrr")
    if shuffled is None:
        return None
    return {
        "reads": shuffled.reads,
        "adapter": f"{adapter.value:.3f}" if adapter else None,
        "shuffled": figure(shuffled.figures.get("mrr"), plain=True),
        "difference": figure(shuffled.difference.get("mrr"), plain=True),
    }


def _groups(test: Test, language: str) -> list[dict[str, Any]]:
    return [
        {
            "kind": GROUPS[language].get(kind) or md_cell(kind, NAME_LENGTH),
            "rows": [
                {
                    "label": md_cell(label, NAME_LENGTH),
                    "n": number((figures.get("top1") or Score(value=0)).n),
                    **{measure: figure(figures.get(measure)) for measure in ("top1", "top5")},
                }
                for label, figures in groups.items()
            ],
        }
        for kind, groups in test.groups.items()
        if groups
    ]


def _place(test: Test, index: int) -> dict[str, Any]:
    place = test.places[index]
    total = sum(one.rows for one in test.places)
    return {
        "label": place.label,
        "rows": place.counted,
        "share": f"{place.rows / total:.1%}" if total else None,
    }


def _calibration(calibration: Calibration) -> dict[str, Any]:
    return {
        "error": f"{calibration.error:.3f}",
        "brier": f"{calibration.brier:.3f}",
        "bins": [
            {
                "range": f"{one.low:.0%}–{one.high:.0%}",
                "rows": number(one.rows),
                "confidence": None if one.confidence is None else f"{one.confidence:.1%}",
                "accuracy": None if one.accuracy is None else f"{one.accuracy:.1%}",
            }
            for one in calibration.bins
            if one.rows
        ],
    }


def unseen_facts(unseen: Unseen | None, language: str) -> dict[str, Any] | None:
    """What the names for creatures never seen are like: a row for each figure, a column for each method."""
    if unseen is None or not unseen.methods:
        return None
    order = ordered_methods(unseen.methods)
    there = {key for method in unseen.methods.values() for key in method.figures}
    labels = INVENTION[language]
    keys = [*(key for key in labels if key in there), *sorted(there - set(labels))]
    return {
        "rows": number(unseen.rows),
        "names": number(unseen.methods[order[0]].names),
        "methods": [_label(name, language) for name in order],
        "figures": [
            {
                "label": labels.get(key) or md_cell(key, NAME_LENGTH),
                "values": [figure(unseen.methods[name].figures.get(key), plain=key not in labels) for name in order],
            }
            for key in keys
        ],
    }
