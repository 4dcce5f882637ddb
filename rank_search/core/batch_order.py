"""Means of maps over their trainings, some of which saw other batches than the rest.

The scores of trainings are taken as y = μ_map + β_round + ε: β is what an order of batches adds to the score of
every map that is trained on it, ε the noise of a single training. Maps are compared on the batches of round 0, which
all of them have seen.

Repeats tell which of the repeated maps is better than another, without the luck of their first trainings. They can't
tell whether these first trainings were lucky together, since β is estimated from the same maps: what their mean first
score owes to their having been picked stays. The verdict, by fresh trainings, has no such part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

ROUND = "round"  # attribute of a repeat: which order of batches it is trained on; a map's first training has order 0


@dataclass(frozen=True)
class Levels:
    """Means of maps over their trainings, on the level of round 0.

    Attributes:
        mean: map → μ.
        se: map → standard error of μ over trainings; NaN where no noise can be told.
        sigma: standard deviation of ε; NaN without repeats.
        freedom: degrees of freedom that sigma rests on.
    """

    mean: Mapping[str, float]
    se: Mapping[str, float]
    sigma: float
    freedom: int = 0


def level(rows: pd.DataFrame) -> Levels:
    """Fits map and round effects by least squares, and pools the noise of single trainings.

    Only maps with repeats tell of rounds and noise; a map with one training is its score, with the pooled noise.

    Args:
        rows: trainings, with ``name``, ``round`` and ``score``.
    """
    mean: dict[str, float] = dict(zip(rows["name"], rows["score"], strict=True))
    repeated = rows[rows.groupby("name")["score"].transform("size") > 1]
    if repeated.empty:
        return Levels(mean, dict.fromkeys(mean, math.nan), math.nan)
    names, rounds = list(dict.fromkeys(repeated["name"])), sorted({*repeated["round"]} - {0})
    of_map = [[name == other for other in names] for name in repeated["name"]]
    of_round = [[number == other for other in rounds] for number in repeated["round"]]
    design = np.hstack([of_map, of_round]).astype(float)
    scores = repeated["score"].to_numpy(dtype=float)
    effects, _, rank, _ = np.linalg.lstsq(design, scores, rcond=None)
    freedom = len(scores) - int(rank)
    residuals = scores - design @ effects
    sigma = math.sqrt(float(residuals @ residuals) / freedom) if freedom else math.nan
    spread = np.sqrt(np.diag(np.linalg.pinv(design.T @ design)))
    found = dict(zip(names, effects[: len(names)], strict=True))
    errors = dict(zip(names, sigma * spread[: len(names)], strict=True))
    return Levels({**mean, **found}, {name: errors.get(name, sigma) for name in mean}, sigma, freedom)
