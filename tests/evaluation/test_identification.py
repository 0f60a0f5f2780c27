"""Figures are honest: intervals hold the truth as often as they say, groups stay whole, and a control tells reading."""

import numpy as np
import pytest
from scipy.stats import beta

from toolkit.evaluation import identification
from toolkit.evaluation.intervals import bootstrap_mean
from toolkit.evaluation.ranks import Rank, tied_rank


def alone(count):
    return [str(row) for row in range(count)]


def at(*ranks):
    """Ranks that no other answer shares."""
    return [Rank(float(rank)) for rank in ranks]


def coverage(draw, truth, trials=150, **how):
    """How many of the intervals of seeded draws hold the truth."""
    held = 0
    for trial in range(trials):
        values, groups = draw(np.random.default_rng(trial))
        low, high = bootstrap_mean(values, groups, trial, resamples=400, **how)
        held += low <= truth <= high
    return held / trials


@pytest.mark.parametrize(("share", "rows"), [(0.03, 150), (0.1, 50), (0.5, 20), (0.9, 100), (0.98, 150)])
def test_an_interval_of_a_share_holds_the_truth_about_19_times_in_20(share, rows):
    measured = coverage(lambda generator: (list(generator.random(rows) < share), alone(rows)), share)
    assert 0.9 <= measured <= 0.999


def creatures_of_six(generator, creatures=60, share=0.3):
    """Six rows of each creature, which are found or missed together more often than not."""
    chances = generator.beta(share / 2, (1 - share) / 2, size=creatures)
    return (generator.random((creatures, 6)) < chances[:, None]).ravel().astype(float).tolist(), list(
        np.repeat(alone(creatures), 6)
    )


def test_an_interval_of_rows_that_belong_together_holds_the_truth_about_19_times_in_20():
    assert 0.9 <= coverage(creatures_of_six, 0.3) <= 0.99


def chance(rows, candidates):
    """Reciprocal ranks of a model that knows nothing, and their mean in the long run."""

    def draw(generator):
        return 1 / generator.integers(1, candidates + 1, size=rows), alone(rows)

    return draw, (1 / np.arange(1, candidates + 1)).mean()


@pytest.mark.parametrize(("rows", "candidates"), [(20, 151), (50, 151), (20, 1025), (100, 1025)])
def test_an_interval_of_reciprocal_ranks_near_chance_holds_the_truth_about_19_times_in_20(rows, candidates):
    assert coverage(*chance(rows, candidates), rare_highs=True) >= 0.92
    assert coverage(*chance(rows, candidates)) < 0.9


@pytest.mark.parametrize("found", [1, 2, 10])
def test_where_high_values_are_rare_a_share_may_be_as_large_as_jeffreys_allows(found):
    values = [1.0] * found + [0.0] * (50 - found)
    _, high = bootstrap_mean(values, alone(50), 7, rare_highs=True)
    jeffreys = beta.ppf(0.975, found + 0.5, 50 - found + 0.5)
    assert high == pytest.approx(max(jeffreys, bootstrap_mean(values, alone(50), 7)[1]), abs=0.006)


def test_rare_high_values_change_nothing_for_a_model_that_finds_most():
    values = list(1 / np.random.default_rng(0).choice([1, 1, 1, 2, 5, 20], size=100))
    plain, wider = (bootstrap_mean(values, alone(100), 7, rare_highs=rare) for rare in (False, True))
    assert wider == pytest.approx(plain, abs=0.003)
    figures = identification.scores(at(*(1 / value for value in values)), alone(100), 7)
    assert (figures["mrr"]["low"], figures["mrr"]["high"]) == wider


def test_taking_the_rows_of_a_creature_as_independent_would_hold_the_truth_too_seldom():
    def apart(generator):
        values, _ = creatures_of_six(generator)
        return values, alone(len(values))

    assert coverage(apart, 0.3) < 0.85


@pytest.mark.parametrize(("value", "low", "high"), [(1.0, 0.9287, 1.0), (0.0, 0.0, 0.0713)])
def test_rows_that_are_all_alike_have_the_interval_of_wilson(value, low, high):
    # Wilson 1927 for 0 of 50: z² / (n + z²) = 3.8415 / 53.8415 = 0.0713.
    assert bootstrap_mean([value] * 50, alone(50), 7) == pytest.approx((low, high), abs=5e-5)


def test_rows_of_one_creature_are_one_witness_however_many_they_are():
    low, high = bootstrap_mean([1.0] * 50, ["Vulpix"] * 50, 7)
    assert (low, high) == pytest.approx((0.2065, 1), abs=5e-5)
    assert bootstrap_mean([1.0, 0.0, 1.0], ["Vulpix"] * 3, 7) == pytest.approx((2 / 3 * low, 1 - low / 3), abs=1e-4)


def test_few_creatures_leave_more_open_than_they_show():
    for values, below, above in (([0.25], 0.1, 0.8), ([0.5, 0.4], 0.2, 0.7)):
        low, high = bootstrap_mean(values, ["Vulpix", "Mew"][: len(values)], 7)
        assert low < below < above < high


def test_the_same_seed_gives_the_same_interval_and_another_a_near_one():
    values = list(np.random.default_rng(0).random(100))
    first = bootstrap_mean(values, alone(100), 7)
    assert bootstrap_mean(values, alone(100), 7) == first
    other = bootstrap_mean(values, alone(100), 8)
    assert other != first
    assert other == pytest.approx(first, abs=0.02)


def test_each_row_adds_what_its_place_counts():
    figures = identification.scores([*at(1, 2, 6), tied_rank(0, 2), tied_rank(4, 2)], alone(5), 7)
    assert figures["top1"]["value"] == (1 + 0.5) / 5
    assert figures["top5"]["value"] == (1 + 1 + 1 + 0.5) / 5
    assert figures["mrr"]["value"] == pytest.approx((1 + 1 / 2 + 1 / 6 + (1 + 1 / 2) / 2 + (1 / 5 + 1 / 6) / 2) / 5)
    assert {figure["n"] for figure in figures.values()} == {5}
    assert identification.scores(at(1, 2), alone(2), 7, exact=[True, False])["exact"]["value"] == 0.5
    assert all(figure["low"] <= figure["value"] <= figure["high"] for figure in figures.values())


def test_a_paired_difference_knows_more_than_two_figures_and_none_is_not_known_to_be_the_same():
    generator = np.random.default_rng(0)
    worse = generator.integers(2, 100, size=200).astype(float)
    better = np.where(generator.random(200) < 0.15, 1.0, worse)
    worse, better = at(*worse), at(*better)
    a, b = (identification.scores(places, alone(200), 7)["mrr"] for places in (better, worse))
    difference = identification.differences(better, worse, alone(200), 7)["mrr"]
    assert difference["value"] == pytest.approx(a["value"] - b["value"])
    assert difference["low"] > a["low"] - b["high"]
    assert difference["low"] > 0
    none = identification.difference([1.0, 0.0] * 10, [1.0, 0.0] * 10, alone(20), 7)
    assert none["low"] < -0.1 < none["value"] == 0 < 0.1 < none["high"]


def test_a_model_that_is_right_as_often_as_it_is_sure_has_a_small_error():
    generator = np.random.default_rng(0)
    sure = generator.random(4000)
    honest = identification.calibration(sure, generator.random(4000) < sure)
    boastful = identification.calibration(sure, generator.random(4000) < sure / 2)
    assert honest["error"] < 0.03
    assert boastful["error"] == pytest.approx(0.25, abs=0.03)
    assert len(honest["bins"]) == 10
    assert {part["rows"] for part in honest["bins"]} == {400}


def test_calibration_of_a_case_computed_by_hand():
    found = identification.calibration([0.9] * 20 + [0.3] * 20, [True] * 20 + [True] * 10 + [False] * 10)
    assert found["bins"] == [
        pytest.approx({"low": 0.3, "high": 0.3, "rows": 20, "confidence": 0.3, "accuracy": 0.5}),
        pytest.approx({"low": 0.9, "high": 0.9, "rows": 20, "confidence": 0.9, "accuracy": 1.0}),
    ]
    assert found["error"] == pytest.approx((0.2 + 0.1) / 2)
    assert found["brier"] == pytest.approx((20 * 0.01 + 10 * 0.49 + 10 * 0.09) / 40)


def test_few_rows_are_not_cut_into_bins_of_chance_and_equal_ones_stay_together():
    assert len(identification.calibration([0.1 * row for row in range(10)], [True] * 10)["bins"]) == 1
    assert len(identification.calibration([0.5] * 300, [True] * 300)["bins"]) == 1
    assert identification.calibration([], []) is None


def test_the_most_frequent_wrong_answers_come_first_and_right_ones_are_none():
    answers = ["Vulpix", "Vulpix", "Mew", "Mew", "Abra"]
    said = ["Ninetales", "Ninetales", "Mew", "Mewtwo", "Kadabra"]
    found = identification.confusions(answers, said, most=2)
    assert found == [
        {"answer": "Vulpix", "said": "Ninetales", "rows": 2},
        {"answer": "Abra", "said": "Kadabra", "rows": 1},
    ]


def test_every_place_is_counted_once_up_to_the_last_candidate():
    counted = identification.rank_counts(at(1, 1, 2, 5, 6, 20, 21, 100, 101, 151), 151)
    assert [(part["from"], part["to"], part["rows"]) for part in counted] == [
        (1, 1, 2),
        (2, 5, 2),
        (6, 10, 1),
        (11, 20, 1),
        (21, 50, 1),
        (51, 100, 1),
        (101, 151, 2),
    ]


@pytest.mark.parametrize(("candidates", "ends"), [(1, [1]), (3, [1, 3]), (5, [1, 5]), (1025, [1000, 1025])])
def test_the_last_places_end_with_the_candidates(candidates, ends):
    assert [part["to"] for part in identification.rank_counts(at(1), candidates)][-2:] == ends


def test_rows_are_grouped_by_what_their_attributes_say():
    attributes = [{"generation": 1, "types": ["fire", "flying"]}] * 5 + [{"generation": 10, "types": ["water"]}] * 6
    attributes += [{"generation": 2, "types": ["ice"]}] * 5 + [{"types": ["bug"]}, {"generation": None}, {}]
    attributes += [{"types": "fire"}, {"generation": [1], "types": []}, {"types": ["ghost"], "register": "field"}]
    grouped = identification.groups_of(attributes)
    assert list(grouped["generation"]) == ["1", "2", "10"]
    assert {label: len(rows) for label, rows in grouped["type"].items()} == {
        "fire": 5,
        "ice": 5,
        "water": 6,
        "other": 2,
    }
    assert list(grouped["type"])[-1] == "other"
    assert grouped["type"]["other"] == [16, 21]
    # A kind that all rows share is no grouping.
    assert identification.groups_of([{"generation": 1}] * 20) == {}


def test_partners_are_rows_of_other_creatures_none_twice_each_used_as_often():
    creatures = [name for name in alone(30) for _ in range(4)]
    found = identification.shuffled_partners(creatures, 7)
    assert all(len(set(rows)) == len(rows) == 20 for rows in found)
    assert not [1 for row, rows in enumerate(found) for other in rows if creatures[other] == creatures[row]]
    used = np.bincount(np.concatenate(found))
    assert used.min() >= 16
    assert used.max() <= 24
    assert identification.shuffled_partners(creatures, 7) == found != identification.shuffled_partners(creatures, 8)


def test_where_few_other_creatures_are_a_row_gets_those():
    found = identification.shuffled_partners(["Vulpix", "Vulpix", "Vulpix", "Mew"], 7)
    assert found[:3] == [[3]] * 3
    assert sorted(found[3]) == [0, 1, 2]
    assert identification.shuffled_partners(["Vulpix", "Vulpix"], 7) == [[], []]
    assert identification.shuffled_partners([], 7) == []


CANDIDATES = 151


def control(scores, rows, seed=7):
    """What `reads` says of a score for each (described row, candidate); row r describes candidate r."""
    creatures = alone(rows)
    ranked = (-scores).argsort(axis=1, kind="stable").argsort(axis=1) + 1.0
    partners = identification.shuffled_partners(creatures, seed)
    others = [at(*(ranked[other, row] for other in partners[row])) for row in range(rows)]
    own = at(*(ranked[row, row] for row in range(rows)))
    return identification.shuffled_control(own, others, creatures, CANDIDATES, seed)


def listening(generator, rows, strength, known=0.0):
    """Random scores, with a bonus for what is described and another one for the first hundred names."""
    scores = generator.normal(size=(rows, CANDIDATES))
    scores[np.arange(rows), np.arange(rows)] += strength
    scores[:, :100] += known
    return scores


@pytest.mark.parametrize("seed", range(10))
def test_an_adapter_that_never_looks_at_the_description_does_not_read(seed):
    habit = np.random.default_rng(seed).normal(size=CANDIDATES)
    assert control(np.tile(habit, (100, 1)), 100)["reads"] is False
    habit[3] += 10
    assert control(np.tile(habit, (100, 1)), 100)["reads"] is False
    habit[:100] += 3
    found = control(np.tile(habit, (100, 1)), 100)
    assert found["reads"] is False
    assert found["figures"]["mrr"]["value"] > 0.045


@pytest.mark.parametrize("known", [0.0, 2.0])
def test_random_scores_are_no_reading_even_with_a_liking_for_known_names(known):
    flagged = [control(listening(np.random.default_rng(seed), 100, 0, known), 100)["reads"] for seed in range(40)]
    assert sum(flagged) <= 2


@pytest.mark.parametrize("known", [0.0, 1.0])
def test_whoever_finds_a_tenth_of_a_hundred_reads(known):
    for seed in range(10):
        found = control(listening(np.random.default_rng(seed), 100, 1.3, known), 100)
        assert found["reads"] is True
        assert found["difference"]["mrr"]["low"] > 0


def test_an_adapter_that_owes_most_of_its_places_to_habit_does_not_read():
    # The right answers are the usual ones, and the description adds a sure but small part.
    creatures = alone(200)
    found = identification.shuffled_control(at(2) * 200, [[tied_rank(1, 2)] * 5] * 200, creatures, CANDIDATES, 7)
    assert found["difference"]["mrr"]["low"] > 0
    assert found["reads"] is False


def test_the_control_is_the_mean_over_partners_then_over_rows():
    places, others = at(1, 1), [at(1, 2, 4, 100), at(2)]
    found = identification.shuffled_control(places, others, ["Vulpix", "Mew"], 100, 7)
    assert found["figures"]["top1"]["value"] == pytest.approx((0.25 + 0) / 2)
    assert found["figures"]["mrr"]["value"] == pytest.approx(((1 + 1 / 2 + 1 / 4 + 1 / 100) / 4 + 1 / 2) / 2)
    assert found["difference"]["top1"]["value"] == pytest.approx(1 - 0.125)


def test_what_cannot_be_told_is_not_said():
    assert identification.shuffled_control(at(1, 2), [[], []], ["Vulpix"] * 2, 10, 7) is None
    assert identification.shuffled_control(at(1) * 3, [at(5)] * 3, alone(3), 10, 7)["reads"] is None
