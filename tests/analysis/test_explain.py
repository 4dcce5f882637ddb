import pytest

from rank_search.analysis.choice import choose
from rank_search.analysis.explain import explain
from rank_search.core.choice import Rule
from tests.analysis.conftest import TRIALS, evidence, table

STUDY = table((0.50, 0), (0.60, 10), (0.70, 20), (0.65, 30), (0.705, 60), (0.71, 100))


def told(rule: str, **options) -> str:
    parsed, found = Rule.parse(rule), evidence(STUDY, "0.012", **options)
    return " ".join(explain(found, parsed, choose(found, parsed)))


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("best", "No map scores higher than 0.7100."),
        ("knee", "it lies farthest above the line"),
        ("within-one-se", "The best map, trial 5, scores 0.7100; of the maps that are below it by no more than the"),
        ("max-parameters=60", "It scores highest of the maps with at most 60 parameters."),
        ("min-score=0.7", "It is the smallest map that scores 0.7 or more."),
        ("as-good-as-best", "A smaller map may lose 0.0120 at most against the best one."),
    ],
)
def test_each_rule_says_why(rule, why) -> None:
    assert why in told(rule)


def test_each_test_says_where_it_stopped() -> None:
    stopped = "2 of 4 smaller maps are as good as trial 5; trial 1 (10 parameters) is not shown to be: -0.1100"
    assert f"On examples that the search never saw, {stopped}, at worst -0.1100." in told("as-good-as-best")
    halves = told("as-good-as-best", selection=False)
    assert f"On one half of the examples, from the front of the other half, {stopped}" in halves
    assert f"On the other half, from the front of the first, {stopped}" in halves


def test_a_margin_that_is_a_share_says_of_what() -> None:
    found = evidence(TRIALS)
    sentences = explain(found, Rule("as-good-as-best"), choose(found, Rule("as-good-as-best")))
    assert sentences[0] == "A smaller map may lose 0.0220 (10% of what fine-tuning gains) at most against the best one."


def test_neighbours_on_the_front_say_what_they_cost_or_gain() -> None:
    sentences = told("min-score=0.7")
    assert "The next smaller map of the front, trial 1, has -10 parameters (-50%) and scores -0.1000" in sentences
    assert "trial 4, has +40 parameters (+200%) and scores +0.0050 (+0.0050 to +0.0050 in pairs)" in sentences
    assert "It was trained once, and stands on the front with probability" in sentences


def test_the_ends_of_the_front_have_one_neighbour() -> None:
    assert "next larger" not in told("best")
    assert "next smaller" not in told("max-parameters=0")
