"""A description and an adapter in; new names, or the likeliest known names, out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core import Progress, ignore
from toolkit.core.answers import SAME_SCRIPT
from toolkit.core.errors import InputError
from toolkit.core.folder import read_json
from toolkit.core.layout import ANSWERS, NAMES_GIVEN, TAKEN_NAMES
from toolkit.core.names import (
    LEAST_LIKE,
    Script,
    answer_script,
    are_new,
    begins_known,
    is_well_formed,
    likeness,
    name_keys,
    nearest_name,
)
from toolkit.core.recipe import DecodingSettings, load_recipe
from toolkit.core.text import clean_text
from toolkit.model import adapter as adapters
from toolkit.model import chat, generate, new_names, rank
from toolkit.model.centroids import Centroids, read_centroids
from toolkit.model.memory import memory_errors
from toolkit.model.prompts import Prompts, Reader, shared_opening

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

NEAREST = 3
# Draws are repeated this often for names that differ; a sure model draws the same ones for ever.
ROUNDS = 4
# New names are chosen among so many times as many draws.
CHOICE = 3
# Descriptions that have no beginning in common.
OPENINGS = ("A", "나", "1")


@dataclass(frozen=True)
class Answerer:
    """A loaded adapter with its request and settings; for one thread at a time.

    Attributes:
        model: On its base, in eval mode.
        tokenizer: Its own, or its base's.
        request: Text before a description.
        system: System turn before that, if there is one.
        decoding: How names are sampled.
        known: Distinct names of the creatures that it knows, if it says which; `prepared` to be ranked.
        taken: Names that are not new: those that it knows, and the others of its dataset.
        reader: Reads descriptions; what the requests begin with is read once for all.
        centroids: By which known names are ranked where the adapter has them, and no others were given.
    """

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    request: str
    system: str | None
    decoding: DecodingSettings
    known: list[str]
    taken: list[str]
    prepared: rank.PreparedCandidates
    reader: Reader
    centroids: Centroids | None = None

    @cached_property
    def tree(self) -> new_names.KnownNames:
        """The names that are not new as a tree, made for the first description that is to be named."""
        return new_names.known_names(self.tokenizer, self.taken)

    @cached_property
    def script(self) -> Script | None:
        """The script that the names of known creatures share."""
        return answer_script(self.known)

    @cached_property
    def formed(self) -> bool:
        """Whether known creatures have names by their form, so that new ones should: other answers may be sentences."""
        return sum(is_well_formed(name, self.script) for name in self.known) >= SAME_SCRIPT * len(self.known)

    @cached_property
    def bare(self) -> Prompts:
        """The request without a description, read."""
        messages = chat.naming_messages("", self.request, self.system)
        return self.reader.read([chat.prompt_ids(self.tokenizer, messages)])


@dataclass(frozen=True, slots=True)
class Described:
    """A description in clean letters, and the request with it as token ids."""

    description: str
    prompt: list[int]


@dataclass(frozen=True, slots=True)
class InventedName:
    """A name that was drawn.

    Attributes:
        name: As the model wrote it.
        probability: That the model answers exactly this and ends its turn, at temperature 1 and of all it could say.
        known: Whether a known creature is called so, in any case of letters; None when no names are known.
        nearest: The name of the dataset that is nearest to it by its letters; None when no names are known.
        distance: How many letters (jamo in Korean) they are apart, as `nearest_name` counts them.
    """

    name: str
    probability: float
    known: bool | None
    nearest: str | None = None
    distance: int | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A known name with its probability among all known names, its share of their scores."""

    name: str
    probability: float


@dataclass(frozen=True, slots=True)
class Named:
    """Names for a description, the best first, and the known creatures nearest to it."""

    description: str
    names: list[InventedName]
    nearest: list[Candidate]


@dataclass(frozen=True, slots=True)
class Identified:
    """The likeliest of the known creatures, in order."""

    description: str
    candidates: list[Candidate]


def open_adapter(
    adapter: str | Path,
    candidates: Sequence[str] | None = None,
    progress: Progress = ignore,
    *,
    revision: str | None = None,
    base: str | None = None,
) -> Answerer:
    """Load an adapter to ask it. One that pkt did not train is asked with pkt's own request and default decoding.

    Args:
        adapter: Its folder or Hub id.
        candidates: Known names, in place of those that the adapter learnt; cleaned, and each taken once.
        progress: Called while known names are prepared.
        revision: Commit, branch or tag of an adapter on the Hub.
        base: Hub id or folder of another base than the one that the adapter names.

    Raises:
        InputError: The adapter cannot be loaded or read, or no candidate is a name.
        HubError: The Hub has no such adapter, or cannot be reached.
        EnvironmentLacks: The memory is too small.
    """
    return open_adapters([adapter], candidates, progress, revision=revision, base=base)[0]


def open_adapters(
    named: Sequence[str | Path],
    candidates: Sequence[str] | None = None,
    progress: Progress = ignore,
    *,
    revision: str | None = None,
    base: str | None = None,
) -> list[Answerer]:
    """Several adapters, each as `open_adapter` loads it, on one base that is in memory once.

    Raises:
        InputError: Their bases differ, or one changes its base's own weights; or as `open_adapter`.
        HubError, EnvironmentLacks: As `open_adapter`.
    """
    folders = [adapters.locate_adapter(str(each), revision) for each in named]
    said = [told(each, candidates) for each in folders]
    answerers = []
    for (model, tokenizer, _), its in zip(adapters.load_adapters(folders, base=base), said, strict=True):
        ranked = [] if its["centroids"] else its["known"]
        prepared = rank.prepare(rank.encode_answers(tokenizer, ranked, progress))
        reader = Reader(model, _opening(tokenizer, its["request"], its["system"]))
        answerers.append(Answerer(model, tokenizer, prepared=prepared, reader=reader, **its))
    return answerers


def told(folder: Path, candidates: Sequence[str] | None) -> dict[str, Any]:
    """What an adapter's files say of how to ask it: the attributes of its `Answerer` that need no model."""
    manifest = adapters.manifest_of(folder)
    known = _texts(folder / ANSWERS) if candidates is None else _cleaned(candidates)
    return {
        "request": manifest.get("request") or chat.REQUEST,
        "system": manifest.get("system"),
        "decoding": load_recipe(manifest.get("recipe")).decoding if manifest else DecodingSettings(),
        "known": known,
        "taken": list(dict.fromkeys([*known, *_texts(folder / TAKEN_NAMES)])),
        "centroids": read_centroids(folder) if candidates is None else None,
    }


def name(
    adapter: str | Path | Answerer,
    description: str,
    count: int = NAMES_GIVEN,
    seed: int = 0,
    progress: Progress = ignore,
    *,
    known: bool = False,
) -> Named:
    """At most `count` different names for a description, fewer where the draws give no more.

    They are drawn with the adapter's own decoding settings; probabilities do not depend on those. A new name is neither
    one of the adapter's dataset nor one edit from one, does not begin with one, and has the form of a name where known
    ones have. First come those that look like names, in the order of how much likelier the description makes them.
    Without known names, or where these are allowed, the likeliest comes first.

    Args:
        adapter: Folder or Hub id; for many descriptions what `open_adapter` gives.
        description: Of a creature, in English or Korean.
        count: How many names.
        seed: Decides them.
        progress: Called while the known names are ranked.
        known: Allow names of known creatures, and of any form.

    Raises:
        InputError: An empty description, one that is too long, or one with a control token; or as `open_adapter`.
        EnvironmentLacks: The memory is too small.
    """
    answerer = _opened(adapter)
    asked = [described(answerer, description)]
    with memory_errors():
        return name_each(answerer, asked, count, [seed], progress, known=known)[0]


def name_each(
    answerer: Answerer,
    asked: Sequence[Described],
    count: int,
    seeds: Sequence[int],
    progress: Progress = ignore,
    *,
    known: bool = False,
) -> list[Named]:
    """As `name`, for descriptions that are read together, each with a seed of its own.

    Raises:
        InputError: The model's probabilities are NaN.
        RuntimeError, MemoryError: The memory does not hold them (`memory_errors` translates).
    """
    read = answerer.reader.read([one.prompt for one in asked])
    plain = known or not answerer.taken
    names = (_drawn if plain else _new)(answerer, read, count, seeds)
    scores = [_scores(answerer, read.some([place]), own) for place, own in enumerate(names)]
    merits = [[(True, score) for score in own] for own in scores] if plain else _merits(answerer, names, scores)
    nearest = _ranked(answerer, read, NEAREST, progress)
    named = []
    for one, own, score, merit, known_ones in zip(asked, names, scores, merits, nearest, strict=True):
        order = sorted(range(len(own)), key=lambda number: merit[number], reverse=True)[:count]
        invented = [_invented(answerer, own[number], score[number]) for number in order]
        named.append(Named(one.description, invented, known_ones))
    return named


def identify(
    adapter: str | Path | Answerer, description: str, top: int = NAMES_GIVEN, progress: Progress = ignore
) -> Identified:
    """The `top` likeliest of the known names, with their probabilities among all of them.

    Args:
        adapter: Folder or Hub id; for many descriptions, or other candidates, what `open_adapter` gives.
        description: Of a creature, in English or Korean.
        top: How many candidates.
        progress: Called while the known names are ranked.

    Raises:
        InputError, EnvironmentLacks: As `name`; InputError also for an adapter without known names.
    """
    answerer = _opened(adapter)
    if not answerer.known:
        raise InputError(
            f"The adapter does not say which names it learnt (there is no {ANSWERS}).",
            "Give the known names as `candidates`.",
        )
    asked = [described(answerer, description)]
    with memory_errors():
        return identify_each(answerer, asked, top, progress)[0]


def identify_each(
    answerer: Answerer, asked: Sequence[Described], top: int, progress: Progress = ignore
) -> list[Identified]:
    """As `identify`, for descriptions that are read together. Errors as of `name_each`."""
    ranked = _ranked(answerer, answerer.reader.read([one.prompt for one in asked]), top, progress)
    return [Identified(one.description, candidates) for one, candidates in zip(asked, ranked, strict=True)]


def _opened(adapter: str | Path | Answerer) -> Answerer:
    return adapter if isinstance(adapter, Answerer) else open_adapter(adapter)


def _rounds(
    read: Prompts, found: Sequence[Sequence[str]], count: int, seeds: Sequence[int]
) -> Iterator[tuple[list[int], Prompts, list[int]]]:
    """The prompts that have fewer than `count` names, until none has: their numbers, themselves, and their seeds."""
    for number in range(ROUNDS):
        if lacking := [place for place, names in enumerate(found) if len(names) < count]:
            yield lacking, read.some(lacking), [seeds[place] + number for place in lacking]


def _drawn(answerer: Answerer, read: Prompts, count: int, seeds: Sequence[int]) -> list[list[str]]:
    """Different names after each prompt, as the model draws them."""
    found: list[list[str]] = [[] for _ in seeds]
    for places, prompts, own in _rounds(read, found, count, seeds):
        drawn = generate.sample(prompts, answerer.tokenizer, answerer.decoding, count, own)
        for place, some in zip(places, drawn, strict=True):
            found[place] = list(dict.fromkeys([*found[place], *(one.name for one in some if one.name)]))[:count]
    return found


def _new(answerer: Answerer, read: Prompts, count: int, seeds: Sequence[int]) -> list[list[str]]:
    """Different new names after each prompt, at least `count` where so many come."""
    found: list[list[str]] = [[] for _ in seeds]
    given: list[set[str]] = [set() for _ in seeds]
    tree = answerer.tree
    for places, prompts, own in _rounds(read, found, count, seeds):
        drawn = new_names.sample_new(prompts, answerer.tokenizer, answerer.decoding, CHOICE * count, own, tree)
        ended = [list(dict.fromkeys(one.name for one in some if one.stopped)) for some in drawn]
        formed = [name for name in dict.fromkeys(chain(*ended)) if _may_be_new(answerer, name)]
        new = {name for name, is_new in zip(formed, are_new(formed, tree.keys), strict=True) if is_new}
        for place, names in zip(places, ended, strict=True):
            for name in filter(new.__contains__, names):
                if are_new([name], given[place])[0]:
                    found[place].append(name)
                    given[place].update(name_keys(name))
    return found


def _may_be_new(answerer: Answerer, name: str) -> bool:
    """Whether a name has the form that it should have, and no beginning of a known one."""
    formed = is_well_formed(name, answerer.script) if answerer.formed else bool(name)
    return formed and not begins_known(name, answerer.tree.keys)


def _merits(
    answerer: Answerer, names: Sequence[Sequence[str]], scores: Sequence[Sequence[float]]
) -> list[list[tuple[bool, float]]]:
    """Whether each new name looks like a name, as all but a twentieth of real ones do; and by how many nats the
    description makes it likelier than no description: their pointwise mutual information."""
    every = list(dict.fromkeys(chain(*names)))
    alike = likeness(every, answerer.known, seed=0) or [[1.0]] * len(every)
    without = _scores(answerer, answerer.bare, every)
    merits = {
        name: (min(shares) >= LEAST_LIKE, other) for name, shares, other in zip(every, alike, without, strict=True)
    }
    return [
        [(merits[name][0], score - merits[name][1]) for name, score in zip(own, of_own, strict=True)]
        for own, of_own in zip(names, scores, strict=True)
    ]


def _scores(answerer: Answerer, read: Prompts, names: Sequence[str]) -> list[float]:
    """Log-probability of each name after one prompt, with the end of its turn."""
    return rank.score(read, rank.prepare(rank.encode_answers(answerer.tokenizer, names)))[0]


def _invented(answerer: Answerer, name: str, score: float) -> InventedName:
    if not answerer.taken:
        return InventedName(name, math.exp(score), None)
    known = name.casefold() in {each.casefold() for each in answerer.known}
    return InventedName(name, math.exp(score), known, *nearest_name(name, answerer.taken))


def _ranked(answerer: Answerer, read: Prompts, top: int, progress: Progress) -> list[list[Candidate]]:
    """The first known names after each prompt: by the adapter's centroids where it has some, else by how likely it
    makes them."""
    if answerer.centroids:
        scores = answerer.centroids.scores(read.states, answerer.known).tolist()
    else:
        scores = rank.score(read, answerer.prepared, progress, top)
    return [likeliest(answerer.known, own, top) for own in scores]


def likeliest(names: Sequence[str], scores: Sequence[float], top: int) -> list[Candidate]:
    """The first `top` names by their log scores, with their shares among all."""
    highest = max(scores, default=0.0)
    weights = [math.exp(score - highest) for score in scores]
    total = sum(weights)
    candidates = [Candidate(name, weight / total) for name, weight in zip(names, weights, strict=True)]
    return sorted(candidates, key=lambda candidate: -candidate.probability)[:top]


def cleaned_description(description: str) -> str:
    """The description in clean letters; InputError when it is empty."""
    text = clean_text(description)
    if not text:
        raise InputError("The description is empty.", "Describe the creature in a sentence or two.")
    return text


def described(answerer: Answerer, description: str) -> Described:
    """A description, ready to be asked about.

    Raises:
        InputError: It is empty, too long, or has a control token.
    """
    text = cleaned_description(description)
    prompt = chat.prompt_ids(answerer.tokenizer, chat.naming_messages(text, answerer.request, answerer.system))
    reason = generate.too_long(answerer.model, prompt, answerer.decoding)
    if reason:
        raise InputError(f"The description is too long: {reason}.", "Shorten it.")
    return Described(text, prompt)


def _opening(tokenizer: PreTrainedTokenizerBase, request: str, system: str | None) -> list[int]:
    """Token ids that requests for all descriptions begin with."""
    texts = [chat.naming_messages(text, request, system) for text in OPENINGS]
    return shared_opening([chat.prompt_ids(tokenizer, text) for text in texts])


def _texts(file: Path) -> list[str]:
    """The names in a file of an adapter; none without the file."""
    if not file.is_file():
        return []
    answers = read_json(file)
    if not isinstance(answers, list) or not answers or not all(isinstance(answer, str) for answer in answers):
        raise InputError(f"{file} is not a list of names.", "Train or download the adapter again.")
    return list(dict.fromkeys(answers))


def _cleaned(candidates: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys(filter(None, map(clean_text, candidates))))
    if not names:
        raise InputError("The candidates hold no names.", "Write one name a line.")
    return names
