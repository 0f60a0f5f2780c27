"""What the adapter must beat when it identifies a creature: chance, frequent names, TF-IDF. No model is loaded.

All give the right answer's place among the candidates: answers that nothing tells apart share their places, and those
that no training description has share the last ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from toolkit.core.text import language_of
from toolkit.evaluation.ranks import Place, place_of, shared

# Similarities that are held at once: bounds the memory of a comparison.
HELD_AT_ONCE = 4_000_000


def tfidf_ranks(
    train_texts: Sequence[str],
    train_answers: Sequence[str],
    texts: Sequence[str],
    answers: Sequence[str],
    candidates: int,
) -> list[Place]:
    """Place of each right answer by the TF-IDF cosine similarity of its nearest training description.

    Args:
        train_texts: Descriptions that the baseline may look at, with their `train_answers`.
        texts: Descriptions to identify, with their right `answers`.
        candidates: How many answers compete.
    """
    train, asked = _tfidf(train_texts, texts)
    return nearest_ranks(train, train_answers, asked, answers, candidates)


def centroid_ranks(
    train_texts: Sequence[str],
    train_answers: Sequence[str],
    texts: Sequence[str],
    answers: Sequence[str],
    candidates: int,
) -> list[Place]:
    """Place of each right answer by the cosine similarity of the mean TF-IDF vector of its training descriptions.

    A nearest centroid classifier (Rocchio 1971). The arguments are those of `tfidf_ranks`.
    """
    from scipy.sparse import csr_array
    from sklearn.preprocessing import normalize

    train, asked = _tfidf(train_texts, texts)
    names, owners = np.unique(np.array(train_answers, dtype=object), return_inverse=True)
    members = csr_array((np.ones(len(owners)), (owners, np.arange(len(owners)))), shape=(len(names), len(owners)))
    return nearest_ranks(normalize(members @ train), list(names), asked, answers, candidates)


def frequent_ranks(train_answers: Sequence[str], answers: Sequence[str], candidates: int) -> list[Place]:
    """Place of each right answer when the most frequent answers of the training come first, whatever is described."""
    counted = Counter(train_answers)
    rows = list(counted.values()) + [0] * (candidates - len(counted))
    places = {count: place_of(rows, rows.index(count)) for count in set(rows)}
    return [places[counted[answer]] for answer in answers]


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
    # Nothing but stop words, of which no vocabulary can be made: nothing is like anything.
    return csr_array((len(train_texts), 1)), csr_array((len(texts), 1))


def nearest_ranks(
    train: Any, train_answers: Sequence[str], asked: Any, answers: Sequence[str], candidates: int
) -> list[Place]:
    """Place of each right answer by the cosine similarity of its nearest training description.

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
    last = shared(len(names), candidates - len(names))
    ranks: list[Place] = []
    for start in range(0, len(answers), at_once):
        similarities = asked[start : start + at_once] @ features
        dense = similarities if isinstance(similarities, np.ndarray) else similarities.toarray()
        best = np.maximum.reduceat(dense, starts, axis=1)
        for scores, answer in zip(best, answers[start : start + at_once], strict=True):
            known = columns.get(answer)
            ranks.append(last if known is None else place_of(scores, known))
    return ranks


def chance(candidates: int) -> dict[str, float]:
    """Expected top-1, top-5 and mean reciprocal rank of a guess among equally likely candidates."""
    return {
        "top1": 1 / candidates,
        "top5": min(5, candidates) / candidates,
        "mrr": sum(1 / place for place in range(1, candidates + 1)) / candidates,
    }
