"""Creatures, as all sources of a dataset together know them. Knows nothing of what is written about them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from toolkit.data.duplicates import find_root
from toolkit.data.masking import ANSWER_LANGUAGES
from toolkit.data.sources.records import slug


@dataclass(slots=True)
class Creature:
    """A creature as its first record tells it; later ones may add names.

    Attributes:
        key: Stable id.
        family: What the creatures that evolve into each other share; the key itself where a source knows no families.
        names: Language code to name.
        origin: The place of its source among those that are read.
    """

    key: str
    family: str
    names: dict[str, str]
    origin: int = 0

    def answer(self, form: str) -> str | None:
        """The name to answer with (`en`, `ko` or `both`), None when it lacks a language."""
        english, korean = self.names.get("en"), self.names.get("ko")
        if form == "both":
            return f"{korean} ({english})" if english and korean else None
        return english if form == "en" else korean


def unite(creatures: Sequence[Creature]) -> dict[str, Creature]:
    """Which creature stands for each key, when those of different sources with the same English or Korean name are one.

    It gets the names of all that it stands for, and the families of united creatures become one family. Of several,
    that of the first source which knows families gives key and family. A name that one source has twice unites nothing.
    """
    order = sorted(range(len(creatures)), key=lambda index: (not _knows_family(creatures[index]), index))
    place = {creatures[index].key: rank for rank, index in enumerate(order)}
    ordered = [creatures[index] for index in order]
    root = list(range(len(ordered)))
    for same in _same_names(ordered):
        _join(root, [place[creature.key] for creature in same])
    families = list(dict.fromkeys(creature.family for creature in ordered))
    number = {family: index for index, family in enumerate(families)}
    family_root = list(range(len(families)))
    for index, creature in enumerate(ordered):
        first = ordered[find_root(root, index)]
        _join(family_root, [number[first.family], number[creature.family]])
        for language, name in creature.names.items():
            first.names.setdefault(language, name)
    for creature in ordered:
        creature.family = families[find_root(family_root, number[creature.family])]
    return {creature.key: ordered[find_root(root, index)] for index, creature in enumerate(ordered)}


def _knows_family(creature: Creature) -> bool:
    return creature.family != creature.key


def _same_names(creatures: Iterable[Creature]) -> Iterable[list[Creature]]:
    named: dict[tuple[str, str], list[Creature]] = defaultdict(list)
    for creature in creatures:
        for language in ANSWER_LANGUAGES:
            if language in creature.names:
                named[language, slug(creature.names[language])].append(creature)
    return [same for same in named.values() if 1 < len(same) == len({creature.origin for creature in same})]


def _join(root: list[int], members: Sequence[int]) -> None:
    roots = [find_root(root, member) for member in members]
    for each in roots:
        root[each] = min(roots)
