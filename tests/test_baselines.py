"""The baselines say something about every dataset, even one without a word to go by."""

from toolkit import baselines


def test_descriptions_of_stop_words_alone_are_all_equally_near():
    ranks = baselines.tfidf_ranks(["the and of", "the"], ["Vulpix", "Pikachu"], ["and the"], ["Vulpix"], 2)
    assert ranks == [1.5]
