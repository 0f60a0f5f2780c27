"""The baselines say something about every dataset, even one without a word to go by."""

import numpy as np
import pytest

from toolkit.evaluation import baselines

TEXTS = ["a red fox with six tails", "a red fox in the snow", "a blue turtle", "a yellow mouse with a bolt"]
ANSWERS = ["Vulpix", "Vulpix", "Squirtle", "Pikachu"]


@pytest.mark.parametrize("ranks", [baselines.tfidf_ranks, baselines.centroid_ranks])
def test_descriptions_of_stop_words_alone_are_all_equally_near(ranks):
    assert ranks(["the and of", "the"], ["Vulpix", "Pikachu"], ["and the"], ["Vulpix"], 2) == [(1.5, 2)]


@pytest.mark.parametrize("ranks", [baselines.tfidf_ranks, baselines.centroid_ranks])
def test_the_words_find_the_creature_and_unknown_answers_share_the_last_places(ranks):
    asked = ["the fox and its tails", "a turtle", "a mouse"]
    assert ranks(TEXTS, ANSWERS, asked, ["Vulpix", "Squirtle", "Mew"], 7) == [(1, 1), (1, 1), (5.5, 4)]


@pytest.mark.parametrize("ranks", [baselines.tfidf_ranks, baselines.centroid_ranks])
def test_creatures_that_nothing_tells_apart_share_their_places(ranks):
    found = ranks(["red fox", "red fox", "blue turtle"], ["Vulpix", "Ninetales", "Mew"], ["a red fox"], ["Vulpix"], 3)
    assert found == [(1.5, 2)]


def test_a_centroid_weighs_all_descriptions_of_a_creature_and_the_neighbour_only_one():
    texts = ["fox", "snow wind", "hail rain", "fox ice"]
    answers = ["Mew", "Mew", "Mew", "Abra"]
    assert baselines.tfidf_ranks(texts, answers, ["fox"], ["Mew"], 2) == [(1, 1)]
    assert baselines.centroid_ranks(texts, answers, ["fox"], ["Mew"], 2) == [(2, 1)]


def test_korean_words_meet_whatever_particle_they_carry():
    texts = ["꼬리가 여섯 갈래인 붉은 여우이다", "푸른 등껍질을 지닌 거북이다", "노란 쥐가 번개를 모은다"]
    asked = ["여우는 붉고 꼬리를 자랑한다", "거북의 등껍질은 푸르다", "번개는 쥐의 볼에 모인다"]
    answers = ["식스테일", "꼬부기", "피카츄"]
    assert baselines.tfidf_ranks(texts, answers, asked, answers, 3) == [(1, 1)] * 3
    assert baselines.centroid_ranks(texts, answers, asked, answers, 3) == [(1, 1)] * 3


def test_comparing_in_pieces_changes_nothing_but_memory(monkeypatch):
    generator = np.random.default_rng(0)
    words = [f"word{number}" for number in range(60)]
    texts = [" ".join(generator.choice(words, size=8)) for _ in range(90)]
    answers = [f"creature{number % 20}" for number in range(90)]
    whole = baselines.tfidf_ranks(texts[:60], answers[:60], texts[60:], answers[60:], 25)
    monkeypatch.setattr(baselines, "HELD_AT_ONCE", 100)
    assert baselines.tfidf_ranks(texts[:60], answers[:60], texts[60:], answers[60:], 25) == whole
    assert min(whole) == (1, 1)


def test_dense_rows_are_ranked_as_sparse_ones_are():
    from scipy.sparse import csr_array

    train, asked = np.eye(3), np.array([[0.9, 0.1, 0.4], [0.1, 0.2, 0.9]])
    expected = [(1, 1), (2, 1)]
    assert baselines.nearest_ranks(train, ["A", "B", "C"], asked, ["A", "B"], 3) == expected
    assert baselines.nearest_ranks(csr_array(train), ["A", "B", "C"], csr_array(asked), ["A", "B"], 3) == expected


def test_frequent_answers_come_first_and_as_frequent_ones_share_their_places():
    train = ["Vulpix"] * 3 + ["Mew"] * 2 + ["Abra"] * 2 + ["Onix"]
    asked = ["Vulpix", "Mew", "Abra", "Onix", "Ditto"]
    assert baselines.frequent_ranks(train, asked, 8) == [(1, 1), (2.5, 2), (2.5, 2), (4, 1), (6.5, 4)]
