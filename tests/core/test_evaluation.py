"""What one model scored, by hand and by law."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rank_search.core.evaluation import Evaluation

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20)


def test_score_is_the_mean_of_the_named_metric_alone() -> None:
    evaluation = Evaluation("accuracy", {"accuracy": [1.0, 0.0, 1.0, 1.0], "loss": [9.0, 9.0, 9.0, 8.0]})
    assert evaluation.score == 0.75
    assert evaluation.means == {"accuracy": 0.75, "loss": 8.75}
    assert list(evaluation.outputs) == []


def test_standard_error_divides_by_the_examples_less_one() -> None:
    # Deviations of ±1 from the mean 2: a variance of 4/3 over three degrees of freedom, shared by four examples.
    assert Evaluation("loss", {"loss": [1, 3, 1, 3]}).standard_error == pytest.approx(math.sqrt(4 / 3 / 4))


def test_one_example_has_a_score_but_no_standard_error() -> None:
    evaluation = Evaluation("loss", {"loss": [0.5], "accuracy": [1.0, 0.0]})
    assert evaluation.score == 0.5
    assert math.isnan(evaluation.standard_error)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_value_that_is_not_finite_is_not_averaged_away(value) -> None:
    """The search fails such a trial by its score."""
    assert not math.isfinite(Evaluation("loss", {"loss": [0.5, value, 0.5]}).score)


@given(VALUES, st.floats(-100, 100), st.randoms())
def test_neither_the_order_nor_a_constant_changes_the_standard_error(values, constant, random) -> None:
    moved = [value + constant for value in values]
    random.shuffle(moved)
    before, after = (Evaluation("loss", {"loss": scores}) for scores in (values, moved))
    assert after.score == pytest.approx(before.score + constant, abs=1e-6)
    assert after.standard_error == pytest.approx(before.standard_error, abs=1e-6)


def test_examples_for_the_choice_do_not_count_in_the_score() -> None:
    evaluation = Evaluation("accuracy", {"accuracy": [1.0, 0.0, 1.0, 1.0, 1.0]}, selection=3)
    assert (evaluation.score, evaluation.means) == (0.5, {"accuracy": 0.5})
    assert (evaluation.searched, evaluation.selected) == ({"accuracy": [1.0, 0.0]}, {"accuracy": [1.0, 1.0, 1.0]})
    assert evaluation.standard_error == pytest.approx(0.5)
    assert Evaluation("accuracy", {"accuracy": [1.0, 0.0]}).selected == {}
