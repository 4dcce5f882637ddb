"""Curves that figures and page draw alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

_POINTS = 50  # of a loss curve


def thinned(losses: Sequence[float]) -> list[tuple[int, float]]:
    """A loss curve by at most so many points: the last step of each stretch, and the mean loss over it."""
    stretches = np.array_split(np.asarray(losses, dtype=float), min(len(losses), _POINTS))
    last = np.cumsum([len(stretch) for stretch in stretches])
    return [(int(step), float(f"{stretch.mean():.4g}")) for step, stretch in zip(last, stretches, strict=True)]


def training_minutes(trials: pd.DataFrame) -> pd.Series[float]:
    """Minutes of training and evaluation until each trial was done, a pack's shared out."""
    return trials["seconds"].fillna(0.0).cumsum() / 60
