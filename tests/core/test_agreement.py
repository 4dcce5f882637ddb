"""Agreement of two ways of scoring."""

import math

import pytest

from rank_search.core.agreement import kendall_tau


def test_tau_is_one_for_the_same_order_and_minus_one_for_the_opposite() -> None:
    assert kendall_tau([(1, 1), (2, 2), (3, 3)]) == pytest.approx(1)
    assert kendall_tau([(1, 3), (2, 2), (3, 1)]) == pytest.approx(-1)
    assert kendall_tau([(1, 1), (2, 3), (3, 2)]) == pytest.approx(1 / 3)
    assert math.isnan(kendall_tau([(1, 1)]))
