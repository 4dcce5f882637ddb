"""When a verdict looks, and how wide its intervals are for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rank_search.analysis.looks import ALPHA, level, looks


@pytest.mark.parametrize(
    ("most", "expected"),
    [(0, []), (1, [1]), (2, [2]), (3, [3]), (4, [3, 4]), (10, [3, 5, 10]), (25, [3, 5, 10, 20, 25])],
)
def test_looks(most, expected) -> None:
    assert looks(most) == expected


@given(st.integers(1, 500))
def test_all_looks_together_spend_no_more_than_is_allowed(most) -> None:
    assert sum(1 - level(seeds) for seeds in looks(most)) <= ALPHA + 1e-9


def test_later_looks_are_stricter_and_do_not_depend_on_how_many_were_planned() -> None:
    assert [1 - level(seeds) for seeds in (3, 5, 10)] == pytest.approx([0.025, 0.0125, 0.00625])
    assert level(1) == level(3)
    assert level(4) == level(5)
