"""How far two ways of scoring agree on the order of maps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from scipy.stats import kendalltau

if TYPE_CHECKING:
    from collections.abc import Sequence


def kendall_tau(pairs: Sequence[tuple[float, float]]) -> float:
    """Kendall's τ-b of pairs of scores; NaN where there are fewer than two, or all scores are the same."""
    if len(pairs) < 2:
        return math.nan
    return float(kendalltau(*zip(*pairs, strict=True)).statistic)
