"""The chosen map and the baselines that it has to beat."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rank_search.analysis.comparison import Comparison, svd_rival, uniform_rival, uniform_rivals
from rank_search.analysis.maps import maps_table
from rank_search.analysis.trials import scored
from rank_search.core.choice import DEFAULT_RULE, Rule
from rank_search.core.errors import RankSearchError
from tests.analysis.conftest import SVD, TRIALS, UNIFORM, evidence, maps, table

MAPS = maps_table(TRIALS)
BY_NUMBER = scored(MAPS)
KINDS = st.sampled_from(["search", UNIFORM, SVD])
STUDIES = st.lists(
    st.tuples(st.integers(0, 8).map(lambda n: n / 8), st.integers(0, 4).map(lambda n: 10 * n), KINDS),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize(("chosen", "expected"), [(4, 2), (5, 1), (3, 3), (0, 0)])
def test_uniform_rival(chosen, expected) -> None:
    """No more parameters and the best score; the smallest uniform map for one below all; itself if uniform."""
    assert uniform_rival(MAPS, BY_NUMBER[chosen]).number == expected


@pytest.mark.parametrize(("chosen", "expected"), [(4, 7), (3, 8), (5, None)])
def test_svd_rival_costs_no_more(chosen, expected) -> None:
    rival = svd_rival(TRIALS, BY_NUMBER[chosen])
    assert (rival and rival.number) == expected


def compared(trials, margin: str = "0.015") -> Comparison:
    return Comparison.from_evidence(evidence(trials, margin), Rule(DEFAULT_RULE))


def test_comparison_is_between_the_choice_and_its_rivals() -> None:
    comparison = compared(TRIALS)
    assert comparison.chosen.number == 4  # the smallest within 0.015 of the best, 0.72
    assert comparison.numbers == {"chosen": 4, "best uniform": 3, "uniform": 2, "svd": 7}
    assert list(comparison.trials) == ["chosen", "best uniform", "uniform", "svd"]
    assert comparison.main is comparison.baselines["best uniform"]


def test_another_rule_has_another_comparison() -> None:
    numbers = Comparison.from_evidence(evidence(TRIALS), Rule.parse("max-parameters=5")).numbers
    assert numbers == {"chosen": 5, "best uniform": 3, "uniform": 1}


def test_roles_that_no_map_has_are_left_out() -> None:
    comparison = compared(table((0.6, 5)))
    assert comparison.numbers == {"chosen": 0}
    assert comparison.main is None


def test_a_uniform_choice_is_its_own_baseline() -> None:
    uniform = table((0.6, 10), (0.5, 20), kinds=[UNIFORM, "search"])
    assert compared(uniform).numbers == {"chosen": 0, "uniform": 0, "best uniform": 0}


def test_study_without_scores_has_no_comparison() -> None:
    with pytest.raises(RankSearchError, match=r"^no trial of the study has a score yet; see its status, and run it$"):
        compared(table((0.6, 10), states=["FAIL"]))


def test_rival_without_trained_uniform_maps() -> None:
    untrained = maps((0.5, 0), (0.6, 5), kinds=[UNIFORM, "search"])
    assert uniform_rival(untrained, scored(untrained)[1]).number == 0
    assert evidence(table((0.5, 0), (0.6, 5), kinds=[UNIFORM, "search"])).best_uniform is None
    assert uniform_rival(maps((0.6, 5)), scored(maps((0.6, 5)))[0]) is None


def test_equal_scores_are_won_by_the_smaller_map() -> None:
    kinds = [UNIFORM, UNIFORM, SVD, SVD, "search"]
    trials = table((0.6, 20), (0.6, 10), (0.6, 18), (0.6, 12), (0.7, 30), kinds=kinds)
    equal = maps_table(trials)
    chosen = scored(equal)[4]
    assert uniform_rival(equal, chosen).number == 1
    assert svd_rival(trials, chosen).number == 3
    assert evidence(trials).best_uniform.number == 1


def test_a_uniform_map_of_the_same_parameters_is_a_rival() -> None:
    found = maps((0.5, 10), (0.6, 20), (0.7, 20), kinds=[UNIFORM, UNIFORM, "search"])
    assert uniform_rival(found, scored(found)[2]).number == 1


def test_failed_baselines_are_nobodys_rivals() -> None:
    trials = table((0.9, 10), (0.9, 10), (0.7, 30), kinds=[UNIFORM, SVD, "search"], states=["FAIL"] * 2 + ["COMPLETE"])
    assert compared(trials).numbers == {"chosen": 2}


@settings(max_examples=30)
@given(STUDIES)
def test_rivals_cost_no_more_wherever_some_cost_no_more(study) -> None:
    trials = table(*((score, parameters) for score, parameters, _ in study), kinds=[kind for *_, kind in study])
    every = scored(trials).values()
    uniform = [trial for trial in every if trial.kind == UNIFORM]
    rivals = uniform_rivals(trials, every)
    for chosen in every:
        rival, truncation = uniform_rival(trials, chosen), svd_rival(trials, chosen)
        assert rivals.get(chosen.number) == (rival and rival.number)
        cheap = [trial for trial in uniform if 0 < trial.trainable_parameters <= chosen.trainable_parameters]
        if cheap and chosen.kind != UNIFORM:
            assert rival in cheap
            assert rival.score == max(trial.score for trial in cheap)
        assert truncation is None or truncation.trainable_parameters <= chosen.trainable_parameters


def test_the_best_uniform_map_may_cost_more_than_the_choice() -> None:
    best = evidence(TRIALS).best_uniform
    assert best.trainable_parameters > compared(TRIALS).chosen.trainable_parameters
    assert not math.isnan(best.front_probability)  # a map, with all that is known of it
