import dataclasses

import numpy as np
import pytest

from rank_search.analysis.trials import scored
from rank_search.analysis.verdict import Contest, judge, paired_interval, rival
from tests.analysis.conftest import table

UNIFORM = "baseline:uniform"
TRIALS = table(
    (0.50, 0), (0.60, 10), (0.70, 20), (0.72, 40), (0.71, 25), (0.69, 5), kinds=[UNIFORM] * 4 + ["search"] * 2
)
BY_NUMBER = scored(TRIALS)


@pytest.mark.parametrize(("chosen", "expected"), [(4, 2), (5, 1), (3, 3), (0, 0)])
def test_rival(chosen, expected) -> None:
    """No more parameters and the best score; the smallest uniform map for one below all; itself if uniform."""
    assert rival(TRIALS, BY_NUMBER[chosen]).number == expected


def test_contest_is_between_the_default_choice_and_its_rival() -> None:
    contest = Contest.of(TRIALS)
    assert contest.chosen.number == 4  # the smallest within 0.01 of the best, 0.72
    assert contest.numbers == [4, 2]
    assert Contest.of(table((0.6, 5))).numbers == [0, None]


def test_rival_without_trained_uniform_maps() -> None:
    trials = table((0.5, 0), (0.6, 5), kinds=[UNIFORM, "search"])
    assert rival(trials, scored(trials)[1]).number == 0
    assert rival(table((0.6, 5)), scored(table((0.6, 5)))[0]) is None


def verdict_of(difference: float, chosen: int = 4, noise: float = 0.2):
    noises = np.random.default_rng(0).normal(0, noise, 400)
    noises -= noises.mean()
    base = np.full(400, 0.5)
    return judge(
        BY_NUMBER[chosen], rival(TRIALS, BY_NUMBER[chosen]), list(base + difference + noises), list(base), "test"
    )


def test_search_that_wins() -> None:
    verdict = verdict_of(0.1)
    assert verdict.text.startswith("The search won: trial 4 (25 parameters) scores +0.1")
    assert "against uniform rank 2 (20 parameters), on 400 test examples" in verdict.text
    assert 0 < verdict.ci_low < verdict.delta < verdict.ci_high
    assert verdict.baseline == 2


def test_uniform_that_is_as_good_is_said_to_be() -> None:
    verdict = verdict_of(0.0)
    assert verdict.text.startswith("No difference in score is shown")
    assert verdict.text.endswith("Uniform is as good, and simpler.")
    assert verdict.ci_low < 0 < verdict.ci_high


def test_uniform_that_is_better_is_said_to_be() -> None:
    verdict = verdict_of(-0.1)
    assert verdict.text.startswith("The chosen map scores worse")
    assert verdict.text.endswith("Uniform is better, and simpler.")
    assert verdict.ci_high < 0


def test_smaller_map_without_a_difference_says_how_much_smaller() -> None:
    assert verdict_of(0.0, chosen=5).text.endswith("It has 50% of that map's parameters.")


def test_choice_that_is_uniform_itself() -> None:
    verdict = judge(BY_NUMBER[3], BY_NUMBER[3], [], [], "test")
    assert verdict.text.startswith("The search did not win: the rule chose uniform rank 4")
    assert (verdict.delta, verdict.ci_low, verdict.ci_high, verdict.baseline) == (0, 0, 0, 3)
    assert "rank 0 everywhere" in judge(BY_NUMBER[0], BY_NUMBER[0], [], [], "test").text


def test_no_verdict_without_a_rival_or_its_values() -> None:
    assert judge(BY_NUMBER[4], None, [0.1], [], "test").text.startswith("No verdict")
    assert judge(BY_NUMBER[4], BY_NUMBER[2], [], [], "test").text.startswith("No verdict")


def test_verdict_on_validation_admits_its_bias() -> None:
    assert "flatters" in judge(BY_NUMBER[4], BY_NUMBER[2], [0.5, 0.6], [0.4, 0.5], "validation").text


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(1)
    hits = 0
    for seed in range(200):
        low, high = paired_interval(draw.normal(0.3, 1.0, 60).tolist(), seed)
        hits += low <= 0.3 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_interval_of_equal_differences_is_a_point() -> None:
    assert paired_interval([0.25, 0.25, 0.25]) == (0.25, 0.25)


def test_verdict_says_when_settings_were_searched_for_one_side_alone() -> None:
    tuned = dataclasses.replace(BY_NUMBER[1], settings={"learning_rate": 0.01})
    told = judge(tuned, BY_NUMBER[3], [0.5, 0.6], [0.4, 0.6], "test").text
    assert "Settings beside the ranks were searched for it, and not for the uniform map." in told
    assert "Settings beside" not in judge(BY_NUMBER[1], BY_NUMBER[3], [0.5, 0.6], [0.4, 0.6], "test").text
