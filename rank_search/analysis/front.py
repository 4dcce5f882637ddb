"""The Pareto front of score (maximised) against trainable parameters (minimised), and its hypervolume."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from rank_search.analysis.maps import map_means
from rank_search.analysis.trials import complete
from rank_search.core import pareto

if TYPE_CHECKING:
    import pandas as pd


def front(maps: pd.DataFrame) -> pd.DataFrame:
    """Maps that no other one dominates, by ascending parameters.

    A map dominates another if it scores at least as well with at most as many parameters, and one of
    the two strictly. Of maps that are equal in both, the first stays.
    """
    ordered = complete(maps).sort_values(
        ["trainable_parameters", "score", "number"], ascending=[True, False, True], kind="stable"
    )
    best_before = ordered["score"].cummax().shift(fill_value=-np.inf)
    return ordered[ordered["score"] > best_before]


def reference_point(maps: pd.DataFrame, parameters: float) -> tuple[float, float]:
    """The (score, parameters) that every point of value dominates.

    The score with rank 0 everywhere where the study has it, else 0 or the lowest score, if that is lower
    (log-likelihoods are); and the space's reference cost.
    """
    finished = complete(maps)
    untrained = finished.query("trainable_parameters == 0")["score"]
    lowest = float(untrained.iloc[0]) if len(untrained) else min([0.0, *finished["score"]])
    return (lowest, parameters)


def hypervolume(maps: pd.DataFrame, reference: tuple[float, float]) -> float:
    """Area that the front dominates up to the reference point, in units of score × parameters."""
    points = complete(maps)[["score", "trainable_parameters"]].to_numpy(dtype=float)
    return _hypervolume(points, reference)


def hypervolume_history(trials: pd.DataFrame, reference: tuple[float, float]) -> list[float]:
    """The hypervolume of the maps that were known after each trial, in order of the trials' numbers."""
    known = complete(trials)
    repeats = known[known["batch_order"] > 0]["number"]
    repeated = int(repeats.iloc[0]) if len(repeats) else math.inf  # from here on a trial may move every map's mean
    points = {row[0]: row[1:] for row in known[["number", "score", "trainable_parameters"]].itertuples(index=False)}
    history: list[float] = []
    stair: list[tuple[float, float]] = []  # the front so far
    for number in trials["number"].tolist():
        if number not in points:  # it failed
            history.append(history[-1] if history else 0.0)
        elif number >= repeated:
            history.append(_hypervolume(map_means(known[known["number"] <= number]), reference))
        elif any(score >= points[number][0] and cost <= points[number][1] for score, cost in stair):
            history.append(history[-1])
        else:
            score, cost = points[number]
            stair = [corner for corner in stair if corner[0] > score or corner[1] < cost] + [(score, cost)]
            history.append(_hypervolume(np.array(stair, dtype=float), reference))
    return history


def _hypervolume(points: np.ndarray, reference: tuple[float, float]) -> float:
    return pareto.hypervolume(points * (-1, 1), (-reference[0], reference[1]))
