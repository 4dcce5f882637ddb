import pytest

from rank_search.analysis.choice import Rule, choose
from rank_search.analysis.explain import explain
from tests.analysis.conftest import maps

MAPS = maps((0.50, 0), (0.60, 10), (0.70, 20), (0.65, 30), (0.705, 60), (0.71, 100))


def told(rule: str) -> str:
    parsed = Rule.parse(rule)
    return " ".join(explain(MAPS, parsed, choose(MAPS, parsed)))


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("best", "No map scores higher than 0.7100."),
        ("knee", "it lies farthest above the line"),
        ("within-one-se", "The best map, trial 5, scores 0.7100 ± 0.0100; of the maps that score 0.7000 or more, this"),
        ("max-parameters=60", "It scores highest of the maps with at most 60 parameters."),
        ("min-score=0.7", "It is the smallest map that scores 0.7 or more."),
    ],
)
def test_each_rule_says_why(rule, why) -> None:
    assert why in told(rule)


def test_neighbours_on_the_front_say_what_they_cost_or_gain() -> None:
    sentences = told("within-one-se")
    assert "The next smaller map of the front, trial 1, has -10 parameters (-50%) and scores -0.1000" in sentences
    assert "The next larger map of the front, trial 4, has +40 parameters (+200%) and scores +0.0050" in sentences
    assert "It was trained once, and stands on the front with probability" in sentences


def test_the_ends_of_the_front_have_one_neighbour() -> None:
    assert "next larger" not in told("best")
    assert "next smaller" not in told("max-parameters=0")
