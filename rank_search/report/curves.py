"""Curves that figures and page draw alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rank_search.analysis.trials import complete

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from rank_search.report.summary import Summary

_POINTS = 50  # of a loss curve


def thinned(losses: Sequence[float]) -> list[tuple[int, float]]:
    """A loss curve by at most so many points: the last step of each stretch, and the mean loss over it."""
    stretches = np.array_split(np.asarray(losses, dtype=float), min(len(losses), _POINTS))
    last = np.cumsum([len(stretch) for stretch in stretches])
    return [(int(step), float(f"{stretch.mean():.4g}")) for step, stretch in zip(last, stretches, strict=True)]


def training_minutes(trials: pd.DataFrame) -> pd.Series[float]:
    """Minutes of training and evaluation until each trial was done, a pack's shared out."""
    return trials["seconds"].fillna(0.0).cumsum() / 60


def shown_differences(summary: Summary) -> pd.DataFrame:
    """The trials whose paired difference to the best uniform map is drawn: one for each map that may be chosen.

    These are the maps that may stand on the front, all baselines, and the chosen one.
    Rank 0 everywhere, which has no place on a log axis, is left out.
    """
    trials = complete(summary.trials).dropna(subset=["difference"])
    trials = trials[(trials["batch_order"] == 0) & (trials["trainable_parameters"] > 0)]
    may_be_chosen = (trials["front_probability"] > 0) | trials["kind"].str.startswith("baseline:")
    return trials[may_be_chosen | (trials["number"] == summary.chosen.number)].sort_values("trainable_parameters")


def best_uniform_label(summary: Summary) -> str:
    """The axis that paired differences are drawn along."""
    best, metric = summary.evidence.best_uniform, summary.metadata.config["task"]["metric"]
    rank = f"uniform rank {best.top_rank}" if best else "the best uniform rank"
    return f"{metric} minus that of {rank}, in pairs"
