"""The Pareto front of score (maximised) against trainable parameters (minimised), and its hypervolume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

# Optuna has no public function for the hypervolume of points; this one is what its own plots call.
from optuna._hypervolume import compute_hypervolume

from rank_search.analysis.trials import complete

if TYPE_CHECKING:
    import pandas as pd

_REFERENCE_MARGIN = 1.1


def front(trials: pd.DataFrame) -> pd.DataFrame:
    """Complete trials that no other one dominates, by ascending parameters.

    A trial dominates another if it scores at least as well with at most as many parameters, and one of
    the two strictly. Of trials that are equal in both, the first stays.
    """
    ordered = complete(trials).sort_values(
        ["trainable_parameters", "score", "number"], ascending=[True, False, True], kind="stable"
    )
    best_before = ordered["score"].cummax().shift(fill_value=-np.inf)
    return ordered[ordered["score"] > best_before]


def reference_point(trials: pd.DataFrame, most_parameters: int) -> tuple[float, float]:
    """The (score, parameters) that every point of worth dominates.

    The score with rank 0 everywhere where the study has it, else 0 or the lowest score, if that is lower
    (log-likelihoods are); and 1.1 times the parameters of the space's largest map, so that the largest map
    itself has some volume too.
    """
    finished = complete(trials)
    untrained = finished.query("trainable_parameters == 0")["score"]
    lowest = float(untrained.iloc[0]) if len(untrained) else min([0.0, *finished["score"]])
    return (lowest, _REFERENCE_MARGIN * most_parameters)


def hypervolume(trials: pd.DataFrame, reference: tuple[float, float]) -> float:
    """Area that the front dominates up to the reference point, in units of score × parameters."""
    points = complete(trials)[["score", "trainable_parameters"]].to_numpy(dtype=float)
    return _hypervolume(points, reference)


def hypervolume_history(trials: pd.DataFrame, reference: tuple[float, float]) -> list[float]:
    """The hypervolume after each trial, in order of the trials' numbers."""
    has_score = (trials["state"] == "COMPLETE").to_numpy()
    points = trials[["score", "trainable_parameters"]].to_numpy(dtype=float)
    return [_hypervolume(points[: n + 1][has_score[: n + 1]], reference) for n in range(len(trials))]


def _hypervolume(points: np.ndarray, reference: tuple[float, float]) -> float:
    minimised = points * (-1, 1)
    corner = np.array([-reference[0], reference[1]])
    inside = minimised[(minimised < corner).all(axis=1)]
    return float(compute_hypervolume(inside, corner)) if len(inside) else 0.0
