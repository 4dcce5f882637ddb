"""Learning rates by the size of a map."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rank_search.core.rates import LearningRates

RATES = LearningRates(((100, 4e-3), (10_000, 1e-3)), head=5e-2)


@pytest.mark.parametrize(
    ("parameters", "rate"), [(0, 4e-3), (50, 4e-3), (100, 4e-3), (1000, 2e-3), (10_000, 1e-3), (10**9, 1e-3)]
)
def test_rates_lie_on_a_line_between_the_points_and_do_not_go_beyond(parameters, rate) -> None:
    assert RATES.at(parameters) == pytest.approx(rate)


@given(st.integers(1, 10**8), st.integers(1, 10**8))
def test_larger_maps_get_no_higher_rate_than_smaller_ones(one, other) -> None:
    assert RATES.at(max(one, other)) <= RATES.at(min(one, other)) + 1e-12


def test_settings_are_those_that_a_candidate_is_trained_at() -> None:
    assert RATES.settings(100) == {"learning_rate": pytest.approx(4e-3), "head_learning_rate": 5e-2}
    assert LearningRates(((7, 0.5),)).settings(3) == {"learning_rate": pytest.approx(0.5)}
