import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rank_search.analysis.choice import choose, contested, walk, walks
from rank_search.analysis.evidence import FrontTest
from rank_search.analysis.scores import ExampleScores
from rank_search.core.choice import DEFAULT_RULE, PLAIN_RULES, Rule
from rank_search.core.errors import RankSearchError
from tests.analysis.conftest import TRIALS, evidence, table

#           untrained   small       knee         dominated    large       largest
STUDY = table((0.50, 0), (0.60, 10), (0.70, 20), (0.65, 30), (0.705, 60), (0.71, 100))


@pytest.mark.parametrize("selection", [True, False])
@pytest.mark.parametrize(
    ("rule", "trial"),
    [
        ("as-good-as-best", 2),
        ("best", 5),
        ("knee", 2),
        ("max-parameters=59", 2),
        ("max-parameters=60", 4),
        ("max-parameters=1,000", 5),
        ("min-score=0.7", 2),
        ("min-score=0.701", 4),
    ],
)
def test_rules(rule, trial, selection) -> None:
    assert choose(evidence(STUDY, "0.012", selection=selection), Rule.parse(rule)).number == trial


@pytest.mark.parametrize(("margin", "trial"), [("0.004", 5), ("0.006", 4), ("0.012", 2), ("0.12", 1), ("0.3", 0)])
def test_a_wider_margin_accepts_smaller_maps(margin, trial) -> None:
    assert choose(evidence(STUDY, margin), Rule(DEFAULT_RULE)).number == trial


def test_a_map_that_is_not_shown_to_be_as_good_is_not_chosen() -> None:
    """0.005 below the best: within the margin if the scores are sure, and not if they are not."""
    assert choose(evidence(STUDY, "0.012", noise=0.01), Rule(DEFAULT_RULE)).number == 2
    assert choose(evidence(STUDY, "0.012", noise=0.2), Rule(DEFAULT_RULE)).number == 5


def test_tests_end_at_the_first_failure() -> None:
    """A small map that would pass is not reached, or the tests together would err more often than one."""
    means = {0: 0.695, 1: 0.5, 2: 0.70}
    scores = ExampleScores({number: {0: number} for number in means}, lambda number: [means[number]] * 50)
    made = walk(FrontTest("examples", [0, 1, 2], scores), 0.05)
    assert [(step.number, step.is_as_good) for step in made.steps] == [(1, False)]
    assert made.chosen == 2


def test_of_two_halves_the_more_careful_choice_counts() -> None:
    """One half alone would accept the small map."""
    draw = np.random.default_rng(0).normal(0, 0.001, 200)
    even = np.arange(200) % 2 == 0
    values = {0: np.where(even, 0.60, 0.55) + draw, 1: np.full(200, 0.61)}
    found = evidence(table((0.575, 10), (0.61, 20)), "0.02", selection=False)
    scores = ExampleScores(found.searched.trainings, lambda number: values[number].tolist())
    halves = type(found)(found.trials, found.maps, scores, None, found.accepted)
    assert [made.chosen for made in walks(halves)] == [0, 1]
    assert choose(halves, Rule(DEFAULT_RULE)).number == 1


def test_nothing_is_shown_without_scores_by_example() -> None:
    known = evidence(STUDY, "0.2", selection=False)
    unknown = type(known)(known.trials, known.maps, ExampleScores({}, lambda _: ()), None, known.accepted)
    assert choose(unknown, Rule(DEFAULT_RULE)).number == 5
    assert sorted({number for pair in contested(unknown) for number in pair}) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("noise", "trial"), [(0.02, 5), (0.4, 2)])
def test_within_one_se_uses_the_error_of_the_paired_difference(noise, trial) -> None:
    """Not that of the scores, which is 0.015 at least: the examples differ by far more than the maps."""
    assert choose(evidence(STUDY, noise=noise), Rule("within-one-se")).number == trial


def test_doubt_is_about_the_map_at_which_the_test_stopped_and_the_best_one() -> None:
    assert contested(evidence(STUDY, "0.012", noise=0.4))[0][1] == 5
    unknown = contested(evidence(STUDY, "0.001", noise=0.4))
    assert unknown[:4] == [(4, 5), (2, 5), (1, 5), (0, 5)]


def test_a_map_that_is_shown_to_be_worse_needs_no_more_trainings() -> None:
    """4 and 2 are shown to be as good, 1 to be worse: nothing is in doubt, and the likeliest maps come first."""
    found = evidence(STUDY, "0.012")
    likely = found.maps.sort_values(["front_probability", "number"], ascending=[False, True])["number"].tolist()
    assert contested(found) == [(number, 5) for number in likely if number != 5]


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1000)), min_size=1, max_size=12),
    st.sampled_from(PLAIN_RULES),
    st.sampled_from([0.0, 0.1]),
)
def test_choice_stands_on_the_front(points, rule, noise) -> None:
    found = evidence(table(*points), "0.05", noise=noise)
    assert choose(found, Rule.parse(rule)) in found.front


def test_bound_that_nothing_meets_says_what_there_is() -> None:
    with pytest.raises(RankSearchError, match=r"no map meets min-score=0\.9: .* the best scores 0\.7100"):
        choose(evidence(STUDY), Rule.parse("min-score=0.9"))


def test_study_without_scores_has_no_choice() -> None:
    with pytest.raises(RankSearchError, match="no trial of the study has a score yet"):
        choose(evidence(table((0.5, 1), states=["FAIL"])), Rule("best"))


def test_the_margin_is_a_share_of_what_fine_tuning_gains() -> None:
    assert evidence(TRIALS).margin == pytest.approx(0.022)  # of 0.72 - 0.50
    assert evidence(TRIALS, "0.01").margin == 0.01
    assert evidence(STUDY).margin == 0.0  # no uniform map shows what there is to gain
