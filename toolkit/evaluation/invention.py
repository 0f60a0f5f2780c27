"""Names for creatures that a model never saw: has each the form of a name, is it new, is it this creature's alone?

`docs/metrics.md` explains each figure, its source and its limits.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import process
from rapidfuzz.distance import OSA

from toolkit.core.text import has_hangul
from toolkit.data.answers import SAME_SCRIPT, fold, names_in, script_of
from toolkit.evaluation.intervals import Estimate, estimate
from toolkit.evaluation.predictions import ADAPTER, Prediction

Script = Literal["en", "ko", "both"]
SCRIPTS: tuple[Script, ...] = ("en", "ko", "both")

SHORTEST_COPY = 4
"""Letters (jamo in Korean) from which a name one edit away is a copy; shorter names have too many neighbours."""
LEAST_LIKE = 0.05
"""The percentile of likeness that an invention must reach; 95 % of real names do."""
# Names compared with all known ones at once: 50,000 known names then take 12 MB.
COMPARED_AT_ONCE = 256

_LETTER = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff"
_ENGLISH = rf"[{_LETTER}][{_LETTER}0-9'’.♀♂-]{{1,13}}(?:(?:: ?| )[{_LETTER}0-9][{_LETTER}0-9'’.♀♂-]{{0,12}})?"
_KOREAN = r"(?:[가-힣♀♂]{2,8}|[가-힣♀♂]{1,7}(?:[0-9A-Z]|:[가-힣]))"
_OTHER = rf"(?![{_LETTER}가-힣])[^\W_]"
_FORMS = {
    "en": re.compile(_ENGLISH),
    "ko": re.compile(_KOREAN),
    "both": re.compile(rf"(?:[가-힣♀♂]|{_KOREAN}) \({_ENGLISH}\)"),
    # Words of neither script, after their combining marks are left out.
    "other": re.compile(rf"{_OTHER}(?:{_OTHER}|['’.・·♀♂-]){{1,13}}(?: {_OTHER}(?:{_OTHER}|['’.-]){{0,12}})?"),
}
_REPEATED = re.compile(r"(.)\1\1|(..+)\2\2")
_WITHOUT_VOWEL = re.compile(r"(?<![a-z])[b-df-hj-np-tv-xz]{4,}(?![a-z])")


@dataclass(frozen=True, slots=True)
class Sample:
    """One sampled name.

    Attributes:
        description: Id of the description.
        name: What the model said.
        stopped: Whether the model ended it, before the limit of new tokens.
        script: The expected script, as `answer_script` finds it.
        creature: Id of the described creature, by default that of the description. Several descriptions of one
            creature may well get the same name.
    """

    description: str
    name: str
    stopped: bool
    script: Script | None
    creature: str | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """The properties of one name by itself.

    Attributes:
        well_formed: See `is_well_formed`.
        new: Not a known name, nor one edit away from one.
        memorised: A name of the training split.
    """

    well_formed: bool
    new: bool
    memorised: bool


def answer_script(answers: Iterable[str]) -> Script | None:
    """The script that nine tenths of the answers share, None when they share none or it is neither Latin nor Hangul."""
    scripts = Counter(script_of(answer) for answer in answers)
    return next((form for form in SCRIPTS if scripts[form] and scripts[form] >= SAME_SCRIPT * scripts.total()), None)


def is_well_formed(name: str, script: Script | None = None) -> bool:
    """Whether a text has the form of one name: one or two capitalised words, or a word of Hangul, or both; not babble.

    A letter three times in a row, more letters three times in a row, or a word of four Latin letters and more without
    a vowel, is babble.

    Args:
        script: The expected form; None takes any, and names in other alphabets.
    """
    name = unicodedata.normalize("NFC", name)
    bare = "".join(letter for letter in name if not unicodedata.category(letter).startswith("M"))
    forms = _FORMS.values() if script is None else [_FORMS[script]]
    return (
        any(form.fullmatch(bare) for form in forms)
        and not any(word[0].islower() or not any(map(str.isalnum, word)) for word in re.split(r"[ (]+", bare))
        and any(map(str.isalpha, bare))
        and _REPEATED.search(bare.lower()) is None
        and _WITHOUT_VOWEL.search(fold(bare)) is None
    )


def judge_all(
    names: Sequence[str], known: Collection[str], training: Collection[str], scripts: Sequence[Script | None]
) -> list[Judgement]:
    """Judge names, each by itself.

    Args:
        names: The names, copies included.
        known: All answers of the dataset.
        training: The answers of its training split.
        scripts: The expected script of each name.

    Returns:
        One judgement for each name. An answer of two names is new when both are, memorised when either is.
    """
    known_keys, training_keys = _keys(known), _keys(training)
    said = {part for name in names for part in _parts(name)}
    copies = known_keys | {key for key, _ in _near_copies(said - known_keys, known_keys)}
    return [
        Judgement(
            well_formed=is_well_formed(name, script),
            new=all(part and part not in copies for part in _parts(name)),
            memorised=any(part in training_keys for part in _parts(name)),
        )
        for name, script in zip(names, scripts, strict=True)
    ]


def invention(
    predictions: Mapping[str, Sequence[Prediction]],
    answers: Collection[str],
    known: Collection[str],
    training: Collection[str],
    seed: int,
) -> dict[str, object] | None:
    """The `unseen` of `evaluation.json`; None without predictions.

    Args:
        predictions: For `unseen`, by method.
        answers: All answers of the dataset, those of `unseen` included.
        known: All names that are not inventions.
        training: The answers of `train`.
        seed: Decides the resamples, and which names likeness holds out.
    """
    if not predictions:
        return None
    script = answer_script(answers)
    methods = {}
    for method, made in predictions.items():
        samples = [
            # By number, because a dataset may give two rows one id.
            Sample(str(number), name, stopped, script, one.creature)
            for number, one in enumerate(made)
            for name, stopped in zip(one.names, one.stopped, strict=True)
        ]
        methods[method] = invention_figures(samples, known, training, seed)
    return {"rows": len(predictions[ADAPTER]), "methods": methods}


def invention_figures(
    samples: Sequence[Sample], known: Collection[str], training: Collection[str], seed: int
) -> dict[str, object]:
    """The figures of `docs/metrics.md`, with 95 % intervals by a bootstrap over creatures.

    Args:
        samples: All names that one model gave.
        known: All answers of the dataset.
        training: The answers of its training split.
        seed: Decides the bootstrap and which names likeness holds out.

    Returns:
        `rows` (descriptions), `names` (samples), and each figure by name. Figures that cannot be measured are absent:
        whether a name is for one creature alone when there is only one, what is name-like when the training split has
        too few names, whether samples of a description differ when each has one.
    """
    figures: dict[str, object] = {"rows": len({sample.description for sample in samples}), "names": len(samples)}
    if not samples:
        return figures
    judged = judge_all([sample.name for sample in samples], known, training, [sample.script for sample in samples])
    creatures = [_creature(sample) for sample in samples]
    formed = np.array([sample.stopped and each.well_formed for sample, each in zip(samples, judged, strict=True)])
    if len(set(creatures)) > 1:
        different = formed & _for_one_creature(samples)
        new = different & np.array([each.new for each in judged])
        likeness = _likeness(samples, new, training, seed)
        if likeness is not None:
            mean, least = likeness
            figures["invented"] = _figure(new & (least >= LEAST_LIKE), creatures, seed)
            figures["likeness"] = _figure(mean, creatures, seed)
        figures["new"] = _figure(new, creatures, seed)
        figures["different"] = _figure(different, creatures, seed)
        varied = _varied(samples, different)
        if varied:
            figures["varied"] = _figure([share for _, share in varied], [creature for creature, _ in varied], seed)
    figures["well_formed"] = _figure(formed, creatures, seed)
    figures["memorised"] = _figure([each.memorised for each in judged], creatures, seed)
    return figures


def _figure(values: Iterable[float], creatures: Sequence[str], seed: int) -> Estimate:
    return estimate([float(value) for value in values], creatures, seed)


def _creature(sample: Sample) -> str:
    return sample.description if sample.creature is None else sample.creature


@lru_cache(maxsize=200_000)
def _key(name: str) -> str:
    """The form in which names are compared: letters, vowel signs and digits alone."""
    return "".join(symbol for symbol in symbols(name) if unicodedata.category(symbol)[0] in "LMN")


def _parts(answer: str) -> list[str]:
    return [_key(name) for name in names_in(answer).sure]


def _keys(answers: Iterable[str]) -> set[str]:
    return {key for answer in answers for key in _parts(answer)} - {""}


def _near_copies(keys: Collection[str], others: Collection[str]) -> Iterator[tuple[str, str]]:
    """Pairs of a key and the same or another: one insertion, deletion, substitution or swap of neighbours away."""
    these, those = (sorted(key for key in some if len(key) >= SHORTEST_COPY) for some in (keys, others))
    for start in range(0, len(these) if those else 0, COMPARED_AT_ONCE):
        some = these[start : start + COMPARED_AT_ONCE]
        distances = process.cdist(some, those, scorer=OSA.distance, score_cutoff=1, dtype=np.uint8)
        for one, other in np.argwhere(distances <= 1):
            yield some[one], those[other]


def _for_one_creature(samples: Sequence[Sample]) -> NDArray[np.bool_]:
    """For each sample, whether no other creature was given its name, one of its two names, or a near copy of one."""
    given: defaultdict[str, set[str]] = defaultdict(set)
    for sample in samples:
        for part in _parts(sample.name):
            given[part].add(_creature(sample))
    shared = {part for part, creatures in given.items() if len(creatures) > 1}
    shared |= {one for one, other in _near_copies(given, given) if given[one] != given[other]}
    return np.array([shared.isdisjoint(_parts(sample.name)) for sample in samples])


def _likeness(
    samples: Sequence[Sample], new: NDArray[np.bool_], training: Collection[str], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The mean and the least percentile of each new sample's names, 0 for the others; None when not measurable."""
    answers = {sample.name: names_in(sample.name).sure for sample, is_new in zip(samples, new, strict=True) if is_new}
    names = sorted({name for parts in answers.values() for name in parts})
    shares = percentiles(names, [name for answer in training for name in names_in(answer).sure], seed)
    if shares is None:
        return None
    percentile = dict(zip(names, shares, strict=True))
    found = {answer: [percentile[name] for name in parts] for answer, parts in answers.items()}
    each = [found[sample.name] if is_new else [0.0] for sample, is_new in zip(samples, new, strict=True)]
    return np.array([sum(parts) / len(parts) for parts in each]), np.array([min(parts) for parts in each])


def _varied(samples: Sequence[Sample], different: NDArray[np.bool_]) -> list[tuple[str, float]]:
    """For each description of several samples: its creature, and the share of pairs of samples that are two names of
    this creature's own (Simpson 1949, without bias by the number of samples)."""
    own: defaultdict[str, list[str | None]] = defaultdict(list)
    creature: dict[str, str] = {}
    for sample, counts in zip(samples, different, strict=True):
        creature[sample.description] = _creature(sample)
        own[sample.description].append(" ".join(_parts(sample.name)) if counts else None)
    shares = []
    for description, names in own.items():
        if len(names) > 1:
            copies = Counter(name for name in names if name is not None)
            pairs = copies.total() ** 2 - sum(count**2 for count in copies.values())
            shares.append((creature[description], pairs / (len(names) * (len(names) - 1))))
    return shares


# How much a name looks like the names of a list, by its letters and their neighbours. Korean is read by the sounds of
# its syllables (jamo), because no list of names holds all syllables.

FEWEST = 20
"""Names of one script below which likeness is not measured."""
ORDER = 3
FOLDS = 5
# Creatures of one family share how their names begin, and a family is either trained on or not.
SHARED_START = 3

_START, _END = "\0", "\n"


@lru_cache(maxsize=200_000)
def symbols(name: str) -> str:
    """A name as symbols: letters in lower case without Latin diacritics, Hangul as jamo."""
    return unicodedata.normalize("NFD", fold(unicodedata.normalize("NFC", name)))


class NameModel:
    """Symbol trigrams of a list of names, interpolated with bigrams, single symbols and a uniform share.

    The weights are those of Witten and Bell (1991, method C): a context that occurs n times, with t different symbols
    after it, leaves t / (n + t) to the next shorter context.

    Args:
        names: Names to learn, at least one.
    """

    def __init__(self, names: Iterable[str]) -> None:
        followers: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for name in names:
            for context, symbol in _events(name):
                for length in range(ORDER):
                    followers[context[ORDER - 1 - length :]][symbol] += 1
        # Symbols that no name has count as one.
        self._uniform = 1 / (len(followers[""]) + 1)
        self._counts = {context: dict(counter) for context, counter in followers.items()}
        self._totals = {context: counter.total() for context, counter in followers.items()}

    def bits(self, name: str) -> float:
        """How surprising a name is: bits for each symbol, its end counted as one."""
        surprise = [-math.log2(self._probability(context, symbol)) for context, symbol in _events(name)]
        return sum(surprise) / len(surprise)

    def _probability(self, context: str, symbol: str) -> float:
        probability = self._uniform
        for length in range(ORDER):
            counts = self._counts.get(context[ORDER - 1 - length :])
            if counts is None:
                break
            total = self._totals[context[ORDER - 1 - length :]]
            probability = (counts.get(symbol, 0) + len(counts) * probability) / (total + len(counts))
        return probability


def _events(name: str) -> Iterable[tuple[str, str]]:
    """Each symbol with the `ORDER - 1` before it."""
    text = _START * (ORDER - 1) + symbols(name) + _END
    return ((text[place - ORDER + 1 : place], text[place]) for place in range(ORDER - 1, len(text)))


def percentiles(names: Sequence[str], real: Collection[str], seed: int) -> list[float] | None:
    """For each name, the share of real names that look less like real names than it does, ties counted half.

    The real names are split into five parts. A name is compared with each part by a model of the other four, which has
    seen neither, and the five shares are averaged: names like the real ones average about 0.5. Names that begin alike
    are in one part. Hangul names are compared with Hangul names, all others with all others.

    Args:
        names: Names other than the real ones, which a model that has seen them finds likely.
        real: Names to compare with; copies count once.
        seed: Decides the parts.

    Returns:
        None when neither script has `FEWEST` real names. A name in a script that has fewer gets 0.
    """
    found = np.zeros(len(names))
    measured = False
    for hangul in (False, True):
        of_script = sorted({symbols(name) for name in real if has_hangul(name) is hangul})
        if len(of_script) < FEWEST:
            continue
        measured = True
        places = [place for place, name in enumerate(names) if has_hangul(name) is hangul]
        found[places] = _mean_shares([names[place] for place in places], of_script, seed)
    return [float(share) for share in found] if measured else None


def _mean_shares(names: Sequence[str], real: Sequence[str], seed: int) -> NDArray[np.float64]:
    if not names:
        return np.zeros(0)
    shares = []
    for held_out in _folds(real, seed):
        hidden = set(held_out)
        model = NameModel(name for name in real if name not in hidden)
        others = np.sort([model.bits(name) for name in held_out])
        bits = [model.bits(name) for name in names]
        # More bits are less alike.
        below = len(others) - np.searchsorted(others, bits, side="right")
        ties = np.searchsorted(others, bits, side="right") - np.searchsorted(others, bits, side="left")
        shares.append((below + ties / 2) / len(others))
    return np.asarray(np.mean(shares, axis=0))


def _folds(real: Sequence[str], seed: int) -> list[list[str]]:
    """The names in `FOLDS` parts at random, those that begin alike together unless that leaves too few groups."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in real:
        groups[symbols(name)[:SHARED_START]].append(name)
    kept = list(groups.values()) if len(groups) >= FOLDS else [[name] for name in real]
    Random(seed).shuffle(kept)
    return [[name for group in kept[part::FOLDS] for name in group] for part in range(FOLDS)]
