import pytest
from hypothesis import given
from hypothesis import strategies as st

from rank_search.analysis.choice import Rule, choose
from rank_search.analysis.front import front
from rank_search.core.errors import InputError, RankSearchError
from tests.analysis.conftest import maps

#           untrained   small       knee         dominated    large       largest
TRIALS = maps((0.50, 0), (0.60, 10), (0.70, 20), (0.65, 30), (0.705, 60), (0.71, 100))


@pytest.mark.parametrize(
    ("rule", "trial"),
    [
        ("best", 5),
        ("knee", 2),
        ("within-one-se", 2),
        ("max-parameters=59", 2),
        ("max-parameters=60", 4),
        ("max-parameters=1,000", 5),
        ("min-score=0.7", 2),
        ("min-score=0.701", 4),
    ],
)
def test_rules(rule, trial) -> None:
    assert choose(TRIALS, Rule.parse(rule)).number == trial


def test_within_one_se_uses_the_error_of_the_best() -> None:
    narrow = maps((0.50, 0), (0.70, 20), (0.71, 100), se=0.009)
    assert choose(narrow, Rule("within-one-se")).number == 2
    unknown = maps((0.50, 0), (0.70, 20), (0.71, 100), se=float("nan"))
    assert choose(unknown, Rule("within-one-se")).number == 2


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1000)), min_size=1, max_size=15),
    st.sampled_from(["best", "knee", "within-one-se"]),
)
def test_choice_stands_on_the_front(points, rule) -> None:
    trials = maps(*points)
    assert choose(trials, Rule.parse(rule)).number in front(trials)["number"].tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kneee", "did you mean 'knee'"),
        ("knee=3", "is no rule"),
        ("max-parameters", "needs a number, such as max-parameters="),
        ("max-parameters=many", "needs a number"),
        ("min-score=nan", "needs a finite number"),
        ("min-score=0,9", "needs a number, such as min-score=0.75"),
        ("max-parameters=-1", "no parameters below 0"),
        ("", "is no rule; known:"),
    ],
)
def test_wrong_rules(text, expected) -> None:
    with pytest.raises(InputError, match=expected):
        Rule.parse(text)


def test_bound_that_nothing_meets_says_what_there_is() -> None:
    with pytest.raises(RankSearchError, match=r"no map meets min-score=0\.9: .* the best scores 0\.7100"):
        choose(TRIALS, Rule.parse("min-score=0.9"))


def test_study_without_scores_has_no_choice() -> None:
    with pytest.raises(RankSearchError, match="no trial of the study has a score yet"):
        choose(maps((0.5, 1), states=["FAIL"]), Rule("best"))
