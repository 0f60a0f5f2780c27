"""Adapter and dataset to evaluation: does it identify, does it invent, and is it better than what costs nothing?

Everything is measured with the base in the precision that the card's snippet loads it in, and says so.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit import baselines, cards, chat, generate, model, rank, rows
from toolkit.errors import InputError
from toolkit.folder import (
    atomic_folder,
    check_replaceable,
    manifest_facts,
    read_manifest,
    write_json,
    write_jsonl,
    write_manifest,
)
from toolkit.recipe import DecodingSettings, EvaluationSettings

TOP = 5
SAMPLED_TEST_ROWS = 8
BASELINES = ("base", "tfidf", "chance")

Say = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Ranking:
    """How one description was identified: the right answer's place (1 is first), and the best candidates in order."""

    place: float
    top: list[str]


def evaluate(
    adapter: Path,
    dataset: rows.LocatedDataset,
    settings: EvaluationSettings,
    decoding: DecodingSettings,
    seed: int,
    *,
    compare: Sequence[str] = BASELINES,
    progress: Say = lambda _what, _done, _of: None,
) -> dict[str, Any]:
    """Measure an adapter and write `evaluation.json`, `samples.jsonl` and the card into its folder.

    Args:
        adapter: A folder that `train` wrote; it is replaced whole.
        dataset: Where `test` and `unseen` are read from, and `train` for the TF-IDF baseline.
        settings: How much is measured.
        decoding: How names are sampled.
        seed: Decides the sampled names.
        compare: Baselines beside the adapter, of `base`, `tfidf` and `chance`.
        progress: Called with what is being done, how many rows are done, and of how many.

    Returns:
        What `evaluation.json` holds.

    Raises:
        InputError: The adapter can not be loaded, or the dataset has neither `test` nor `unseen`.
    """
    manifest = read_manifest(adapter, "adapter")
    check_replaceable(adapter, "adapter")
    splits = {split: rows.read_split(dataset, split) for split in rows.SPLITS}
    test = splits["test"][: settings.max_test]
    unseen = splits["unseen"][: settings.max_unseen]
    if not test and not unseen:
        raise InputError(f"The dataset {dataset.id} has neither a test nor an unseen split.", "Build one that has.")
    peft_model, tokenizer, precision = model.load_adapter(adapter, settings.quantization)
    candidates = sorted({rows.answer_of(row) for split in splits.values() for row in split})

    shown = [("test", row) for row in test[:SAMPLED_TEST_ROWS]] + [("unseen", row) for row in unseen]
    with model.memory_errors():
        rankings, methods = _identify(peft_model, tokenizer, test, splits["train"], candidates, compare, progress)
        samples = _sample(peft_model, tokenizer, shown, rankings, settings, decoding, seed, progress)
    evaluation = {
        "schema": 1,
        "seed": seed,
        "candidates": len(candidates),
        "dataset_content": dataset.content(),
        "precision": model.precision_facts(precision),
        "machine": model.drawing_machine(),
        "test": {"rows": len(test), "methods": methods} if test else None,
        "unseen": _invention(samples, candidates) if unseen else None,
    }
    # The settings that were used replace those of the training: card, `pkt name` and `pkt verify` read them.
    used = {"decoding": decoding.model_dump(), "evaluation": settings.model_dump()}
    facts = {
        **manifest_facts(manifest),
        "recipe": manifest["recipe"] | used,
        "evaluation_precision": evaluation["precision"],
    }
    with atomic_folder(adapter, "adapter") as folder:
        shutil.copytree(adapter, folder, dirs_exist_ok=True)
        write_json(folder / "evaluation.json", evaluation)
        write_jsonl(folder / "samples.jsonl", samples)
        cards.render_model_card(folder, facts, facts.get("repo_id"))
        write_manifest(folder, "adapter", facts)
    return evaluation


def _identify(
    peft_model: Any,
    tokenizer: Any,
    test: list[dict[str, Any]],
    train: list[dict[str, Any]],
    candidates: list[str],
    compare: Sequence[str],
    progress: Say,
) -> tuple[list[Ranking], dict[str, Any]]:
    """Rankings of the adapter, and the figures of every method by name."""
    if not test:
        return [], {}
    prompts = [chat.prompt_ids(tokenizer, row["messages"][:-1]) for row in test]
    ids = rank.answer_ids(tokenizer, candidates)
    right = [candidates.index(rows.answer_of(row)) for row in test]

    def ranked(what: str) -> list[Ranking]:
        scored = (rank.log_likelihoods(peft_model, prompt, ids) for prompt in prompts)
        rankings = []
        for scores, answer in zip(scored, right, strict=True):
            rankings.append(_ranking(scores, answer, candidates))
            progress(what, len(rankings), len(test))
        return rankings

    rankings = ranked("identify")
    methods = {"adapter": _figures([ranking.place for ranking in rankings])}
    if "base" in compare:
        with peft_model.disable_adapter():
            methods["base"] = _figures([ranking.place for ranking in ranked("base")])
    if "tfidf" in compare and train:
        places = baselines.tfidf_ranks(
            [rows.description_of(row) for row in train],
            [rows.answer_of(row) for row in train],
            [rows.description_of(row) for row in test],
            [rows.answer_of(row) for row in test],
            len(candidates),
        )
        methods["tfidf"] = _figures(places)
    if "chance" in compare:
        chance = baselines.chance(len(candidates))
        methods["chance"] = {name: {"value": value, "n": len(test)} for name, value in chance.items()}
    return rankings, methods


def _ranking(scores: Sequence[float], right: int, candidates: list[str]) -> Ranking:
    order = sorted(range(len(candidates)), key=lambda index: -scores[index])
    return Ranking(baselines.mean_rank(scores, right), [candidates[index] for index in order[:TOP]])


def _figures(places: Sequence[float]) -> dict[str, Any]:
    count = len(places)
    return {
        "top1": share(sum(place < 2 for place in places), count),
        "top5": share(sum(place < TOP + 1 for place in places), count),
        "mrr": {"value": sum(1 / place for place in places) / count, "n": count},
    }


def share(successes: int, count: int) -> dict[str, Any]:
    """A proportion with its 95 % Wilson score interval (Wilson 1927)."""
    from scipy.stats import binomtest

    interval = binomtest(successes, count).proportion_ci(confidence_level=0.95, method="wilson")
    return {"value": successes / count, "low": float(interval.low), "high": float(interval.high), "n": count}


def _sample(
    peft_model: Any,
    tokenizer: Any,
    shown: list[tuple[str, dict[str, Any]]],
    rankings: list[Ranking],
    settings: EvaluationSettings,
    decoding: DecodingSettings,
    seed: int,
    progress: Say,
) -> list[dict[str, Any]]:
    """The lines of samples.jsonl: the first rows of `test` and all rows of `unseen`, none of them selected."""
    samples = []
    for number, (split, row) in enumerate(shown):
        prompt = row["messages"][:-1]
        names = generate.sample_names(
            peft_model, tokenizer, prompt, decoding, settings.names_per_description, seed + number
        )
        samples.append(
            {
                "split": split,
                "id": str(row.get("id", number)),
                "description": rows.description_of(row),
                "messages": prompt,
                "answer": rows.answer_of(row),
                "greedy": generate.greedy_name(peft_model, tokenizer, prompt, decoding),
                "names": names,
                "identified": rankings[number].top if split == "test" else None,
            }
        )
        progress("sample", number + 1, len(shown))
    return samples


WORD = r"[A-ZÀ-Þ][\w'’.♀♂-]{1,13}"
WELL_FORMED = re.compile(rf"{WORD}( [\w'’.♀♂-]{{1,13}})?|[가-힣♀♂]{{2,8}}|[가-힣♀♂]{{1,8}} \({WORD}\)")


def is_well_formed(name: str) -> bool:
    """Whether a text has the form of a name: one or two capitalised words of letters, or Hangul, or both; not babble.

    A run of three equal letters, or a word of four letters and more without a vowel, is babble.
    """
    return (
        WELL_FORMED.fullmatch(name) is not None
        and re.search(r"(.)\1\1", name.lower()) is None
        and re.search(r"(?<![A-Za-z])[b-df-hj-np-tv-xzB-DF-HJ-NP-TV-XZ]{4,}(?![A-Za-z])", name) is None
    )


def _invention(samples: list[dict[str, Any]], candidates: Sequence[str]) -> dict[str, Any]:
    """Shares of the names sampled for unseen creatures that have the form of a name, are no known name, and differ."""
    names = [name for sample in samples if sample["split"] == "unseen" for name in sample["names"]]
    known = {candidate.casefold() for candidate in candidates}
    return {
        "rows": sum(sample["split"] == "unseen" for sample in samples),
        "names": len(names),
        "well_formed": share(sum(is_well_formed(name) for name in names), len(names)),
        "new": share(sum(name.casefold() not in known for name in names), len(names)),
        "distinct": share(len({name.casefold() for name in names}), len(names)),
    }
