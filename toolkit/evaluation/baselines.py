"""What an adapter must beat when it identifies a creature: frequent names, and the nearest training description by
TF-IDF or by a sentence encoder (which needs the extra `encoder`, sentence-transformers).

All give the right answer's rank among the candidates; tied answers share their ranks, and those that no training
description has share the last ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from toolkit.core.text import language_of
from toolkit.evaluation.ranks import Rank, rank_of, tied_rank
from toolkit.model import encoder as encoders

# Similarities held at once: bounds the memory of a comparison.
HELD_AT_ONCE = 4_000_000


class Described(NamedTuple):
    """Descriptions with their right answers: those that a baseline learns from, or those that it identifies."""

    texts: Sequence[str]
    answers: Sequence[str]


def tfidf_ranks(train: Described, asked: Described, candidates: int) -> list[Rank]:
    """Rank of each right answer by the TF-IDF cosine similarity of its nearest training description.

    `candidates` is how many answers compete.
    """
    known, queries = _tfidf(train.texts, asked.texts)
    return nearest_ranks(known, train.answers, queries, asked.answers, candidates)


def centroid_ranks(train: Described, asked: Described, candidates: int) -> list[Rank]:
    """Rank of each right answer by the cosine similarity of the mean TF-IDF vector of its training descriptions.

    A nearest centroid classifier (Rocchio 1971).
    """
    from scipy.sparse import csr_array
    from sklearn.preprocessing import normalize

    known, queries = _tfidf(train.texts, asked.texts)
    names, owners = np.unique(np.array(train.answers, dtype=object), return_inverse=True)
    members = csr_array((np.ones(len(owners)), (owners, np.arange(len(owners)))), shape=(len(names), len(owners)))
    return nearest_ranks(normalize(members @ known), list(names), queries, asked.answers, candidates)


def frequent_ranks(train: Described, asked: Described, candidates: int) -> list[Rank]:
    """Rank of each right answer if the most frequent answers of the training come first for every description."""
    counted = Counter(train.answers)
    rows = list(counted.values()) + [0] * (candidates - len(counted))
    ranks = {count: rank_of(rows, rows.index(count)) for count in set(rows)}
    return [ranks[counted[answer]] for answer in asked.answers]


def encoder_ranks(encoder: str | None, train: Described, asked: Described, candidates: int) -> list[Rank]:
    """Rank of each right answer by the cosine similarity of its nearest training description's embedding.

    `encoder` is the folder or Hub id of a sentence-transformers model (Reimers and Gurevych 2019), None the default.

    Raises:
        EnvironmentLacks: sentence-transformers is not installed.
        InputError: It holds no encoder, or is neither a folder nor a Hub id.
        HubError: The Hub does not have it, or cannot be reached.
    """
    model = encoders.load_encoder(encoders.locate_encoder(encoder or encoders.DEFAULT_ENCODER).path)
    known, queries = (encoders.embed(model, part.texts) for part in (train, asked))
    return nearest_ranks(known, train.answers, queries, asked.answers, candidates)


def _tfidf(train_texts: Sequence[str], texts: Sequence[str]) -> tuple[Any, Any]:
    """Rows of unit length for the training descriptions and for those to identify, `[texts, terms]`, sparse."""
    from scipy.sparse import csr_array
    from sklearn.feature_extraction.text import TfidfVectorizer

    korean = sum(language_of(text) == "ko" for text in train_texts) * 2 > len(train_texts)
    # Korean words carry their particles: parts of words meet where whole words do not.
    terms = {"analyzer": "char_wb", "ngram_range": (1, 2)} if korean else {"stop_words": "english"}
    vectorizer = TfidfVectorizer(sublinear_tf=True, **terms)
    if any(map(vectorizer.build_analyzer(), train_texts)):
        return vectorizer.fit_transform(train_texts), vectorizer.transform(texts)
    # Stop words alone make no vocabulary: all are equally near.
    return csr_array((len(train_texts), 1)), csr_array((len(texts), 1))


def nearest_ranks(
    train: Any, train_answers: Sequence[str], asked: Any, answers: Sequence[str], candidates: int
) -> list[Rank]:
    """Rank of each right answer by the cosine similarity of its nearest training description.

    Args:
        train: Rows of unit length, sparse or dense, `[training descriptions, features]`, with their `train_answers`.
        asked: Rows of unit length for the descriptions to identify, `[descriptions, features]`, with their `answers`.
        candidates: How many answers compete.
    """
    order = np.argsort(np.array(train_answers, dtype=object), kind="stable")
    names, starts = np.unique(np.array(train_answers, dtype=object)[order], return_index=True)
    columns = {name: column for column, name in enumerate(names)}
    features = train[order].T
    at_once = max(1, HELD_AT_ONCE // len(order))
    last = tied_rank(len(names), candidates - len(names))
    ranks: list[Rank] = []
    for start in range(0, len(answers), at_once):
        similarities = asked[start : start + at_once] @ features
        dense = similarities if isinstance(similarities, np.ndarray) else similarities.toarray()
        best = np.maximum.reduceat(dense, starts, axis=1)
        for scores, answer in zip(best, answers[start : start + at_once], strict=True):
            known = columns.get(answer)
            ranks.append(last if known is None else rank_of(scores, known))
    return ranks
