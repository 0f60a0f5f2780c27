"""What the adapter must beat when it identifies a creature: chance and TF-IDF nearest neighbour. No model is loaded."""

from __future__ import annotations

from collections.abc import Sequence


def tfidf_ranks(
    train_texts: Sequence[str],
    train_answers: Sequence[str],
    texts: Sequence[str],
    answers: Sequence[str],
    candidates: int,
) -> list[float]:
    """Rank of each right answer by the TF-IDF cosine similarity of its nearest training description.

    Args:
        train_texts: Descriptions that the baseline may look at, with their `train_answers`.
        texts: Descriptions to identify, with their right `answers`.
        candidates: How many answers compete; one that has no training description shares the last places.

    Returns:
        1 is first. Ties count as the mean of the places they share.
    """
    import numpy
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english")
    if any(map(vectorizer.build_analyzer(), train_texts)):
        similarities = (vectorizer.fit_transform(train_texts) @ vectorizer.transform(texts).T).toarray()
    else:
        # Nothing but stop words, of which no vocabulary can be made: nothing is like anything.
        similarities = numpy.zeros((len(train_texts), len(texts)))
    names = sorted(set(train_answers))
    groups = [numpy.array([answer == name for answer in train_answers]) for name in names]
    best = numpy.stack([similarities[group].max(axis=0) for group in groups])
    missing = candidates - len(names)
    ranks = []
    for column, answer in enumerate(answers):
        if answer in names:
            ranks.append(mean_rank(list(best[:, column]), names.index(answer)))
        else:
            ranks.append(len(names) + (missing + 1) / 2)
    return ranks


def mean_rank(scores: Sequence[float], right: int) -> float:
    """Place of `scores[right]` among all scores, the highest first; ties count as the mean of the places they share."""
    above = sum(score > scores[right] for score in scores)
    equal = sum(score == scores[right] for score in scores)
    return above + (equal + 1) / 2


def chance(candidates: int) -> dict[str, float]:
    """Expected top-1, top-5 and mean reciprocal rank of a guess among equally likely candidates."""
    return {
        "top1": 1 / candidates,
        "top5": min(5, candidates) / candidates,
        "mrr": sum(1 / place for place in range(1, candidates + 1)) / candidates,
    }
