"""The plot of characters."""

from hypothesis import given
from hypothesis import strategies as st

from rank_search.app.plot import scatter

POINTS = st.lists(st.tuples(st.integers(1, 10**9), st.floats(0, 1)), min_size=1, max_size=20)


def cells(drawn: str) -> list[tuple[int, int]]:
    """Lines and columns of the points, from the top left of their field."""
    lines = [line.partition("│")[2] for line in drawn.splitlines() if "│" in line]
    return [(row, column) for row, line in enumerate(lines) for column, mark in enumerate(line) if mark == "o"]


def test_points_lie_where_a_logarithmic_axis_puts_them() -> None:
    drawn = scatter([(1000, 0.7), (10_000, 0.75), (100_000, 0.8)], width=41, height=5)
    assert cells(drawn) == [(0, 40), (2, 20), (4, 0)]
    assert drawn.splitlines() == [
        "  score",
        " 0.8000 │" + " " * 40 + "o",
        "        │",
        " 0.7500 │" + " " * 20 + "o",
        "        │",
        " 0.7000 │o",
        "        └" + "─" * 41,
        "         1,000            10,000           100,000",
        "                 parameters (logarithmic)",
    ]


@given(POINTS)
def test_every_point_is_drawn_inside_the_field_and_in_order(points) -> None:
    drawn = scatter(points, width=30, height=8)
    found = cells(drawn)
    assert 1 <= len(found) <= len(points)
    assert all(row < 8 and column < 30 for row, column in found)
    assert all(len(line) <= 9 + 30 for line in drawn.splitlines())
    assert f"{max(number for number, _ in points):,}" in drawn.splitlines()[-2]
    parameters, scores = zip(*points, strict=True)
    columns, rows = {column for _, column in found}, {row for row, _ in found}
    assert (len(set(parameters)) > 1) == ({0, 29} <= columns)
    if max(scores) > min(scores):
        assert {0, 7} <= rows


@given(st.lists(st.integers(1, 10**7), min_size=2, max_size=8, unique=True))
def test_a_rising_front_rises(parameters) -> None:
    found = cells(scatter([(number, rank) for rank, number in enumerate(sorted(parameters))], height=30))
    assert found == sorted(found)
    columns = [column for _, column in found]
    assert columns == sorted(columns, reverse=True)
    assert len(found) == len(parameters)


def test_equal_values_are_drawn_in_the_middle() -> None:
    assert cells(scatter([(500, 0.5), (500, 0.5)], width=11, height=5)) == [(2, 5)]
