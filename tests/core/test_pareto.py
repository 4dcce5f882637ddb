"""Pareto maths against slow and obvious versions."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rank_search.core import pareto

# Small whole numbers, so that ties and equal points come up.
POINTS = st.lists(st.tuples(st.integers(-4, 4), st.integers(0, 6)), max_size=14).map(
    lambda rows: np.array(rows, dtype=float).reshape(-1, 2)
)
SOME_POINTS = POINTS.filter(len)


def dominates(p, q) -> bool:
    return bool((p <= q).all() and (p < q).any())


def slow_ranks(points) -> list[int]:
    ranks = [-1] * len(points)
    rank = 0
    while -1 in ranks:
        left = [i for i in range(len(points)) if ranks[i] == -1]
        for i in [i for i in left if not any(dominates(points[j], points[i]) for j in left)]:
            ranks[i] = rank
        rank += 1
    return ranks


def slow_area(points, corner) -> float:
    """Counts the unit cells below the corner that some point dominates."""
    cells = [(x, y) for x in range(-10, int(corner[0])) for y in range(-10, int(corner[1]))]
    return float(sum(any(px <= x and py <= y for px, py in points) for x, y in cells))


@given(POINTS)
def test_ranks_are_those_of_peeling_fronts(points) -> None:
    assert pareto.dominance_ranks(points).tolist() == slow_ranks(points)


@given(POINTS)
def test_front_is_what_nothing_dominates_with_the_first_of_equals(points) -> None:
    expected = [
        i
        for i, p in enumerate(points)
        if not any(dominates(q, p) for q in points) and not any((q == p).all() for q in points[:i])
    ]
    found = pareto.front(points).tolist()
    assert sorted(found) == expected
    assert (np.diff(points[found, 1]) > 0).all()


@given(POINTS, st.tuples(st.integers(-4, 5), st.integers(0, 7)))
def test_hypervolume_is_the_area_of_dominated_cells(points, corner) -> None:
    inside = points[(points < corner).all(axis=1)]
    assert pareto.hypervolume(points, corner) == pytest.approx(slow_area(inside, corner))


@given(SOME_POINTS, st.integers(1, 4))
def test_subset_is_distinct_and_near_the_best(points, count) -> None:
    corner = (5.0, 7.0)
    found = pareto.hypervolume_subset(points, count, corner)
    assert len(set(found)) == len(found) == min(count, len(points))
    best = max(
        pareto.hypervolume(points[list(chosen)], corner) for chosen in combinations(range(len(points)), len(found))
    )
    assert pareto.hypervolume(points[found], corner) >= (1 - 1 / np.e) * best - 1e-9


@given(SOME_POINTS)
def test_membership_of_one_draw_is_rank_zero(points) -> None:
    found = pareto.front_membership(-points[:, :1], points[:, 1])
    assert found[:, 0].tolist() == (pareto.dominance_ranks(points) == 0).tolist()


def test_draws_are_apart_from_one_another() -> None:
    scores = np.array([[0.5, 0.9], [0.7, 0.7]])
    assert pareto.front_membership(scores, np.array([10, 20])).tolist() == [[True, True], [True, False]]


def test_no_points_have_no_front_and_no_area() -> None:
    nothing = np.empty((0, 2))
    assert pareto.front(nothing).tolist() == []
    assert pareto.dominance_ranks(nothing).tolist() == []
    assert pareto.hypervolume(nothing, (1.0, 1.0)) == 0.0


def test_scores_are_turned_to_be_minimised() -> None:
    assert pareto.minimised([0.7, 0.8], [10, 20]).tolist() == [[-0.7, 10.0], [-0.8, 20.0]]
