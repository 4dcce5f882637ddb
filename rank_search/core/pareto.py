"""Pareto maths of two objectives: the front, non-domination ranks, hypervolume.

Points are ``[points, 2]`` arrays whose two columns are both minimised; a score that is maximised goes in negative.
Point p dominates q if it is no larger in both columns, and smaller in one of them.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


def minimised(scores: Sequence[float] | np.ndarray, costs: Sequence[float] | np.ndarray) -> np.ndarray:
    """Scores (maximised) and costs (minimised) as points, ``[points, 2]``."""
    return np.column_stack([-np.asarray(scores, dtype=float), np.asarray(costs, dtype=float)])


def dominance_ranks(points: np.ndarray) -> np.ndarray:
    """Non-domination rank of each point, ``[points]``: 0 for the front, 1 for the front of the rest, and so on.

    Equal points have equal ranks. Points are looked at in ascending order of both columns; each one belongs to the
    first front whose smallest second column so far is above its own (Jensen, 2003), found by bisection.
    """
    ranks = np.zeros(len(points), dtype=int)
    lowest: list[float] = []  # by front: the smallest second column so far, ascending from front to front
    previous: tuple[float, float] | None = None
    for position in np.lexsort((points[:, 1], points[:, 0])):
        first, second = float(points[position, 0]), float(points[position, 1])
        if (first, second) != previous:
            rank = bisect_right(lowest, second)
            lowest[rank : rank + 1] = [second]
            previous = first, second
        ranks[position] = rank
    return ranks


def front(points: np.ndarray) -> np.ndarray:
    """Positions of the points that no other one dominates, by ascending second column; of equal points the first."""
    order = np.lexsort((np.arange(len(points)), points[:, 0], points[:, 1]))
    best = np.minimum.accumulate(points[order, 0])
    is_better = np.append(True, points[order[1:], 0] < best[:-1]) if len(order) else np.array([], dtype=bool)
    found: np.ndarray = order[is_better]
    return found


def front_membership(scores: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Whether each point is on the front of each draw, ``[points, draws]``; points that are equal are all on it.

    Args:
        scores: maximised, ``[points, draws]``.
        costs: minimised, the same in all draws, ``[points]``.
    """
    distinct, group = np.unique(costs, return_inverse=True)
    best = np.full((len(distinct), scores.shape[1]), -np.inf)
    np.maximum.at(best, group, scores)
    cheaper = np.vstack([np.full(scores.shape[1], -np.inf), np.maximum.accumulate(best, axis=0)[:-1]])
    return (scores >= best[group]) & (scores > cheaper[group])


def hypervolume(points: np.ndarray, reference: Sequence[float] | np.ndarray) -> float:
    """Area that the points dominate up to the reference point; a point that is not below it in both adds nothing."""
    corner = np.asarray(reference, dtype=float)
    inside = points[(points < corner).all(axis=1)]
    stairs = inside[front(inside)]  # by ascending second column, so by descending first column
    tops = np.append(stairs[1:, 1], corner[1])
    return float(((corner[0] - stairs[:, 0]) * (tops - stairs[:, 1])).sum())


def hypervolume_subset(points: np.ndarray, count: int, reference: Sequence[float] | np.ndarray) -> list[int]:
    """Positions of ``count`` points that dominate much area together, each the one that adds most to those before.

    The greedy solution of the hypervolume subset selection problem, within 1 - 1/e of the best one (Guerreiro,
    Fonseca and Paquete, 2016). Ties go to the first point.
    """
    chosen: list[int] = []
    while len(chosen) < min(count, len(points)):
        left = [position for position in range(len(points)) if position not in chosen]
        areas = [hypervolume(points[[*chosen, position]], reference) for position in left]
        chosen.append(left[int(np.argmax(areas))])
    return chosen
