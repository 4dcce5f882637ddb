import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from rank_search.analysis.comparison import Comparison, svd_rival, uniform_rival
from rank_search.analysis.maps import maps_table
from rank_search.analysis.trials import scored
from rank_search.analysis.verdict import judge, paired_interval
from tests.analysis.conftest import TRIALS

MAPS = maps_table(TRIALS)
BY_NUMBER = scored(MAPS)


def contest_of(chosen: int) -> Comparison:
    rivals = {"uniform": uniform_rival(MAPS, BY_NUMBER[chosen]), "svd": svd_rival(TRIALS, BY_NUMBER[chosen])}
    return Comparison(BY_NUMBER[chosen], {role: rival for role, rival in rivals.items() if rival})


def verdict_of(difference: float, chosen: int = 4, noise: float = 0.2):
    noises = np.random.default_rng(0).normal(0, noise, (3, 400))
    noises -= noises.mean()
    base = np.full((3, 400), 0.5)
    return judge(contest_of(chosen), {"chosen": base + difference + noises, "uniform": base, "svd": base - 0.2}, "test")


def test_search_that_wins() -> None:
    verdict = verdict_of(0.1)
    assert verdict.text.startswith("The search won: trial 4 (25 parameters) scores +0.1")
    assert "against uniform rank 2 (20 parameters), on 400 test examples, 3 fresh training seeds each" in verdict.text
    assert "On validation, where it was chosen, the difference was +0.0100." in verdict.text
    assert 0 < verdict.ci_low < verdict.delta < verdict.ci_high
    assert (verdict.baseline, verdict.seeds) == (2, 3)


def test_one_example_shows_nothing_that_its_trainings_do_not() -> None:
    assert paired_interval([[0.3]]) == (-math.inf, math.inf)
    low, high = paired_interval([[0.3], [0.1], [0.2]])
    assert low < 0
    assert high > 0.2


def test_a_uniform_choice_is_set_against_other_rivals_all_the_same() -> None:
    verdict = judge(contest_of(3), {"chosen": [[0.5, 0.6]], "svd": [[0.7, 0.9]]}, "test")
    assert verdict.text.startswith("The search did not win: the rule chose uniform rank 4")
    assert "Against ranks from SVD" in verdict.text


def test_every_rival_is_told_of() -> None:
    verdict = verdict_of(0.1)
    assert [comparison.role for comparison in verdict.comparisons] == ["uniform", "svd"]
    assert "Against ranks from SVD at no more parameters, the map of trial 7 (22 parameters): better" in verdict.text


def test_uniform_that_is_as_good_is_said_to_be() -> None:
    verdict = verdict_of(0.0)
    assert verdict.text.startswith("No difference in score is shown")
    assert "Uniform is as good, and simpler." in verdict.text
    assert verdict.ci_low < 0 < verdict.ci_high


def test_uniform_that_is_better_is_said_to_be() -> None:
    verdict = verdict_of(-0.1)
    assert verdict.text.startswith("The chosen map scores worse")
    assert "Uniform is better, and simpler." in verdict.text
    assert verdict.ci_high < 0


def test_smaller_map_without_a_difference_says_how_much_smaller() -> None:
    assert "It has 50% of that map's parameters." in verdict_of(0.0, chosen=5).text


def test_choice_that_is_uniform_itself() -> None:
    verdict = judge(Comparison(BY_NUMBER[3], {"uniform": BY_NUMBER[3]}), {}, "test")
    assert verdict.text.startswith("The search did not win: the rule chose uniform rank 4")
    assert (verdict.delta, verdict.ci_low, verdict.ci_high, verdict.baseline) == (0, 0, 0, 3)
    assert "rank 0 everywhere" in judge(Comparison(BY_NUMBER[0], {"uniform": BY_NUMBER[0]}), {}, "test").text


def test_no_verdict_without_a_rival_or_its_values() -> None:
    assert judge(Comparison(BY_NUMBER[4], {}), {"chosen": [[0.1]]}, "test").text.startswith("No verdict")
    assert judge(contest_of(4), {}, "test").text.startswith("No verdict")


def test_verdict_on_validation_admits_its_bias() -> None:
    values = {"chosen": [[0.5, 0.6]], "uniform": [[0.4, 0.5]]}
    assert "flatters" in judge(contest_of(4), values, "validation").text


def test_verdict_says_when_settings_were_searched_for_one_side_alone() -> None:
    values = {"chosen": [[0.5, 0.6]], "uniform": [[0.4, 0.6]]}
    tuned = Comparison(dataclasses.replace(BY_NUMBER[1], settings={"learning_rate": 0.01}), {"uniform": BY_NUMBER[3]})
    told = "Settings beside the ranks were searched for it, and not for the uniform map."
    assert told in judge(tuned, values, "test").text
    assert told not in judge(Comparison(BY_NUMBER[1], {"uniform": BY_NUMBER[3]}), values, "test").text


@pytest.mark.slow
@pytest.mark.parametrize("of_seed", [0.0, 0.02, 0.1])
def test_interval_covers_the_truth_about_as_often_as_it_says(of_seed) -> None:
    """Three seeds, whether they or the examples make most of the noise; 500 runs in benchmarks/coverage.py."""
    draw = np.random.default_rng(1)
    hits = 0
    for seed in range(150):
        differences = 0.3 + of_seed * draw.normal(size=(3, 1)) + draw.normal(0, 0.5, (1, 200))
        differences = differences + draw.normal(0, 0.3, (3, 200))
        low, high = paired_interval(differences, seed)
        hits += low <= 0.3 <= high
    assert 0.88 <= hits / 150 <= 0.99


def test_interval_of_one_seed_is_that_of_the_mean_over_examples() -> None:
    differences = np.random.default_rng(0).normal(0.1, 1, 400)
    low, high = paired_interval([differences])
    expected = stats.norm.interval(0.95, differences.mean(), differences.std() / 20)
    assert (low, high) == pytest.approx(expected, abs=0.01)


def test_interval_of_equal_differences_is_a_point() -> None:
    assert paired_interval([[0.25, 0.25, 0.25]] * 2) == pytest.approx((0.25, 0.25))
