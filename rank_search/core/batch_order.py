"""Means of maps over their trainings, some of which saw the batches in another order than the rest.

The scores of trainings are taken as y = μ_map + β_order + ε: β is what an order of batches adds to the score of every
map that is trained on it, ε the noise of a single training. Maps are compared on order 0, which all of them have seen.

Repeats show which of the repeated maps is better than another, without the luck of their first trainings. They can't
show whether these first trainings were lucky together, since β is estimated from the same maps: what their mean first
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


@dataclass(frozen=True)
class MapMeans:
    """Means of maps over their trainings, as if all had been trained on order 0.

    Attributes:
        mean: map → μ.
        se: map → standard error of μ over trainings; NaN where the noise is unknown.
        sigma: standard deviation of ε; NaN without repeats.
        freedom: degrees of freedom that sigma rests on.
    """

    mean: Mapping[str, float]
    se: Mapping[str, float]
    sigma: float
    freedom: int = 0


def fit_map_means(rows: pd.DataFrame) -> MapMeans:
    """Fits map and order effects by least squares, and pools the noise of single trainings.

    Only maps with repeats show the effects of orders and the noise; the mean of a map with one
    training is its score, with the pooled noise.

    Args:
        rows: trainings, with ``name``, ``batch_order`` and ``score``.
    """
    mean: dict[str, float] = dict(zip(rows["name"], rows["score"], strict=True))
    repeated = rows[rows.groupby("name")["score"].transform("size") > 1]
    if repeated.empty:
        return MapMeans(mean, dict.fromkeys(mean, math.nan), math.nan)
    names, maps = np.unique(repeated["name"].to_numpy(dtype=str), return_inverse=True)
    orders, order_of = np.unique(repeated["batch_order"].to_numpy(dtype=int), return_inverse=True)
    scores = repeated["score"].to_numpy(dtype=float)
    shared = np.zeros((len(names), len(orders)))  # trainings of each map on each order
    np.add.at(shared, (maps, order_of), 1)
    counts = shared.sum(axis=1)
    share = shared / counts[:, None]
    map_mean = np.bincount(maps, scores) / counts
    # With the maps taken out of the normal equations (Frisch, Waugh and Lovell) only the few orders are left; β₀ is 0.
    later = orders != 0
    left = (np.diag(shared.sum(axis=0)) - shared.T @ share)[np.ix_(later, later)]
    inverse = np.zeros((len(orders), len(orders)))
    inverse[np.ix_(later, later)] = np.linalg.pinv(left, hermitian=True)
    beta = inverse @ (np.bincount(order_of, scores) - shared.T @ map_mean)
    mu = map_mean - share @ beta
    freedom = len(scores) - len(names) - round(np.trace(inverse[np.ix_(later, later)] @ left))
    residuals = scores - mu[maps] - beta[order_of]
    sigma = math.sqrt(float(residuals @ residuals) / freedom) if freedom else math.nan
    spread = np.sqrt(1 / counts + np.einsum("mo,op,mp->m", share, inverse, share))
    fitted = dict(zip(names.tolist(), mu.tolist(), strict=True))
    errors = dict(zip(names.tolist(), (sigma * spread).tolist(), strict=True))
    return MapMeans({**mean, **fitted}, {name: errors.get(name, sigma) for name in mean}, sigma, freedom)
