"""The split of each row, from the ids of its creature, its family and its cluster of near-duplicate texts."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence, Set

from toolkit.core.recipe import DatasetSettings
from toolkit.data.duplicates import first_connected

MIN_CLUSTERS = 3
"""A known creature with fewer different descriptions is only trained on."""


def assign_splits(
    creatures: Sequence[str],
    families: Sequence[str],
    clusters: Sequence[str],
    answers: Sequence[Collection[str]],
    settings: DatasetSettings,
    seed: int,
) -> list[str]:
    """The split of each row, from its creature, family, cluster and the keys of its answer (`answer_keys`).

    A cluster never straddles two splits. `unseen` gets whole families; those that share a cluster or a key go together.
    Every other creature has at least one cluster in `train`. The same rows and seed give the same splits in any order
    of rows.
    """
    unseen = _unseen_families(families, clusters, answers, settings.unseen_size, seed)
    owner: dict[str, str] = {}
    rows = zip(creatures, clusters, strict=True)
    shared = {cluster for creature, cluster in rows if owner.setdefault(cluster, creature) != creature}
    known: dict[str, set[str]] = defaultdict(set)
    for creature, family, cluster in zip(creatures, families, clusters, strict=True):
        if family not in unseen:
            known[creature].add(cluster)
    split: dict[str, str] = {}
    for creature, described in known.items():
        split |= _assign_creature(creature, described, shared, settings, seed)
    return [
        "unseen" if family in unseen else split.get(cluster, "train")
        for family, cluster in zip(families, clusters, strict=True)
    ]


def join_clusters(clusters: Sequence[int], labels: Sequence[str], same: Iterable[tuple[str, str]]) -> list[int]:
    """Join clusters until each label's texts lie in one; an empty label joins nothing.

    Args:
        clusters: Of each text, the index of the first text of its cluster.
        labels: Of each text.
        same: Pairs of equal labels.
    """
    # Each label is a graph node, numbered after the texts.
    node: dict[str, int] = defaultdict(lambda: len(clusters) + len(node))
    links = [(place, first) for place, first in enumerate(clusters) if place != first]
    links += [(place, node[label]) for place, label in enumerate(labels) if label]
    links += [(node[one], node[other]) for one, other in same if one and other]
    joined: list[int] = first_connected(len(clusters) + len(node), links).tolist()
    return joined[: len(clusters)]


def _unseen_families(
    families: Sequence[str], clusters: Sequence[str], answers: Sequence[Collection[str]], share: float, seed: int
) -> set[str]:
    names = sorted(set(families))
    number = {name: index for index, name in enumerate(names)}
    first: dict[str, int] = {}
    first_answer: dict[str, int] = {}
    pairs = [
        pair
        for family, cluster in zip(families, clusters, strict=True)
        if (pair := (number[family], first.setdefault(cluster, number[family])))[0] != pair[1]
    ]
    named = {(family, key) for family, keys in zip(families, answers, strict=True) for key in keys}
    pairs += [(number[family], first_answer.setdefault(key, number[family])) for family, key in named]
    groups: dict[int, list[str]] = defaultdict(list)
    for name, group in zip(names, first_connected(len(names), pairs).tolist(), strict=True):
        groups[group].append(name)
    room = min(round(share * len(names)), len(names) - 1)
    unseen: set[str] = set()
    for members in sorted(groups.values(), key=lambda members: _draw(seed, "unseen", members[0])):
        if len(unseen) + len(members) <= room:
            unseen.update(members)
    return unseen


def _assign_creature(
    creature: str, clusters: Set[str], shared: Set[str], settings: DatasetSettings, seed: int
) -> dict[str, str]:
    """The split of the clusters that are this creature's alone; shared ones stay in train."""
    if len(clusters) < MIN_CLUSTERS:
        return {}
    alone = sorted(
        clusters - shared,
        key=lambda cluster: _draw(seed, creature, cluster),
    )
    held_out = min(len(alone), len(clusters) - 1)
    # Rounded up or down by a draw of the creature's own, so that the shares come out right over all creatures.
    test = min(int(len(clusters) * settings.test_size + _draw(seed, "test", creature)), held_out)
    validation = min(
        int(len(clusters) * settings.validation_size + _draw(seed, "validation", creature)), held_out - test
    )
    return {
        cluster: "test" if place < test else "validation" for place, cluster in enumerate(alone[: test + validation])
    }


def _draw(seed: int, *what: str) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    digest = hashlib.sha256("\0".join((str(seed), *what)).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56
