"""Predictions to the figures of `evaluation.json`: whoever has the predictions finds the same. Knows no model."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from toolkit.evaluation import baselines
from toolkit.evaluation import identification as statistics
from toolkit.evaluation.invention import Invented, answer_script, invention_figures
from toolkit.evaluation.predictions import Prediction
from toolkit.evaluation.ranks import share_within

CHANCE = "chance"


def identification(
    predictions: Sequence[Prediction], candidates: int, seed: int, *, chance: bool = True
) -> dict[str, Any] | None:
    """What `evaluation.json` says of `test`; None without a prediction for it.

    Args:
        predictions: Of all methods.
        candidates: How many names compete.
        seed: Decides the resamples of the intervals.
        chance: Whether chance stands among the methods.
    """
    by_method = _by_method(prediction for prediction in predictions if prediction.split == "test")
    if not by_method:
        return None
    adapter = by_method["adapter"]
    creatures = [prediction.creature for prediction in adapter]
    places = {method: [one.ranked() for one in made] for method, made in by_method.items()}
    own = places["adapter"]
    methods = {method: _figures(made, seed) for method, made in by_method.items()}
    if chance:
        guessed = baselines.chance(candidates)
        methods[CHANCE] = {name: {"value": value, "n": len(adapter)} for name, value in guessed.items()}
    return {
        "rows": len(adapter),
        "creatures": len(set(creatures)),
        "methods": methods,
        "differences": {
            method: statistics.differences(own, others, creatures, seed)
            for method, others in places.items()
            if method != "adapter"
        },
        "shuffled": statistics.reads(own, [one.shuffled() for one in adapter], creatures, candidates, seed),
        "groups": _groups(adapter, seed),
        "places": statistics.place_counts(own, candidates),
        "confusions": statistics.confusions(
            [one.answer for one in adapter],
            # Who shares the first place is not behind the one that is listed there.
            [one.top[0] if place.above else one.answer for one, place in zip(adapter, own, strict=True)],
        ),
        "calibration": statistics.calibration(
            [one.confidence or 0.0 for one in adapter], list(share_within(own, 1, 1))
        ),
    }


def invention(
    predictions: Sequence[Prediction],
    answers: Collection[str],
    known: Collection[str],
    training: Collection[str],
    seed: int,
) -> dict[str, Any] | None:
    """What `evaluation.json` says of `unseen`; None without a prediction for it.

    Args:
        predictions: Of all methods.
        answers: All answers of the dataset, those of `unseen` too.
        known: All names that are no inventions.
        training: The answers of `train`.
        seed: Decides the resamples, and which names are held out.
    """
    by_method = _by_method(prediction for prediction in predictions if prediction.split == "unseen")
    if not by_method:
        return None
    script = answer_script(answers)
    methods = {}
    for method, made in by_method.items():
        samples = [
            # By number, because a dataset may give two rows one id.
            Invented(str(number), name, stopped, script, one.creature)
            for number, one in enumerate(made)
            for name, stopped in zip(one.names, one.stopped, strict=True)
        ]
        methods[method] = invention_figures(samples, known, training, seed)
    return {"rows": len(by_method["adapter"]), "methods": methods}


def _by_method(predictions: Iterable[Prediction]) -> dict[str, list[Prediction]]:
    found: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        found.setdefault(prediction.method, []).append(prediction)
    return found


def _figures(made: Sequence[Prediction], seed: int) -> dict[str, Any]:
    exact = [one.greedy == one.answer for one in made] if all(one.greedy is not None for one in made) else None
    places, creatures = [one.ranked() for one in made], [one.creature for one in made]
    return statistics.identification_figures(places, creatures, seed, exact)


def _groups(adapter: Sequence[Prediction], seed: int) -> dict[str, dict[str, Any]]:
    """The adapter's figures by generation and by type, where the data has them."""
    grouped = statistics.groups_of([json.loads(one.attributes) for one in adapter])
    return {
        kind: {label: _figures([adapter[number] for number in numbers], seed) for label, numbers in labels.items()}
        for kind, labels in grouped.items()
    }
