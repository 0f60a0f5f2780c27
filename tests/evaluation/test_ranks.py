"""Ties are fair: a figure of tied answers is what it would be on average over every order of them."""

import itertools

import pytest

from toolkit.evaluation import baselines, identification, ranks
from toolkit.evaluation.baselines import Described
from toolkit.evaluation.ranks import Rank


def every_order(above, tied, count):
    """The mean of what an answer counts, over all orders of those that it is tied with."""
    orders = list(itertools.permutations(range(tied)))
    return sum(count(above + order.index(0) + 1) for order in orders) / len(orders)


@pytest.mark.parametrize("above", [0, 1, 3, 4, 5, 9])
@pytest.mark.parametrize("tied", [1, 2, 3, 6])
def test_a_shared_rank_counts_what_it_counts_on_average_over_all_orders(above, tied):
    rank = ranks.tied_rank(above, tied)
    assert (rank.above, rank.tied) == (above, tied)
    for last in (1, 5):
        expected = every_order(above, tied, lambda order, last=last: order <= last)
        assert ranks.share_within([rank], 1, last) == pytest.approx(expected)
    assert ranks.reciprocals([rank]) == pytest.approx(every_order(above, tied, lambda order: 1 / order))


def test_who_is_alone_counts_exactly_what_its_rank_says():
    alone = [Rank(1.0), Rank(3.0), Rank(151.0)]
    assert list(ranks.reciprocals(alone)) == [1, 1 / 3, 1 / 151]
    assert list(ranks.share_within(alone, 1, 5)) == [1, 1, 0]
    assert len(ranks.reciprocals([])) == len(ranks.share_within([], 1, 5)) == 0


def test_equal_scores_share_their_ranks():
    scores = [-3.0, -1.0, -3.0, -3.0, -9.0]
    assert [ranks.rank_of(scores, right) for right in range(5)] == [(3, 3), (1, 1), (3, 3), (3, 3), (5, 1)]


@pytest.mark.parametrize("names", [2, 7, 12, 40])
def test_names_that_are_all_as_frequent_are_found_by_chance(names):
    answers = [f"Name{number}" for number in range(names)]
    found = baselines.frequent_ranks(Described([], answers * 3), Described([], answers), names)
    figures = identification.scores(found, answers, 7)
    assert {name: figure["value"] for name, figure in figures.items()} == pytest.approx(
        identification.chance_scores(names)
    )


def test_one_constant_answer_finds_no_more_than_the_rows_that_it_is_right_for():
    # Two names as frequent, and one that the training lacks: whatever is said first, it is right for a third of them.
    found = baselines.frequent_ranks(Described([], ["Vulpix", "Mew"]), Described([], ["Vulpix", "Mew", "Abra"]), 3)
    figures = identification.scores(found, ["Vulpix", "Mew", "Abra"], 7)
    assert figures["top1"]["value"] == pytest.approx(1 / 3)
    assert figures["top5"]["value"] == 1


def test_shared_ranks_are_counted_in_parts_and_agree_with_the_share_that_is_first():
    found = [ranks.tied_rank(0, 2), ranks.tied_rank(0, 1), ranks.tied_rank(4, 4), *[ranks.tied_rank(9, 3)] * 3]
    counted = {part["from"]: part["rows"] for part in identification.rank_counts(found, 12)}
    assert counted == {1: 1.5, 2: 0.75, 6: 1.75, 11: 2}
    assert isinstance(counted[11], int)
    assert sum(counted.values()) == len(found)
    figures = identification.scores(found, list(range(6)), 7)
    assert figures["top1"]["value"] == pytest.approx(counted[1] / 6)
    assert figures["top5"]["value"] == pytest.approx((counted[1] + counted[2]) / 6)


def test_a_first_answer_that_is_shared_is_right_in_part_for_the_calibration():
    found = identification.calibration([0.5] * 20, [0.5] * 20)
    assert found["error"] == 0
    # Half of the time it is right, and the other half it is not: (1 - 0.5)² and 0.5².
    assert found["brier"] == pytest.approx(0.25)
