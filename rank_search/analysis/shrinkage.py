"""What a chosen map can be expected to score again, since the best of many noisy scores is partly the luckiest."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rank_search.analysis.evidence import Evidence
    from rank_search.analysis.trials import ScoredTrial

_LEAST_MAPS = 5  # below which a trend over them says nothing


def expected_score(evidence: Evidence, trial: ScoredTrial) -> float | None:
    """A map's score, shrunken towards what maps of its size score: an empirical-Bayes mean.

    Scores are taken as a straight line over the logarithm of the parameters, plus what a map truly has beside that
    (variance τ², by the method of moments), plus the noise by which maps are compared (variance v, from paired
    differences). The mean of what is left is line + τ² / (τ² + v) · (score − line) (Efron & Morris, 1975,
    doi:10.1080/01621459.1975.10479864).

    Returns:
        None where there are too few maps, or no scores by example.
    """
    maps = [found for found in evidence.by_number.values() if found.trainable_parameters]
    variance = _noise(evidence, maps)
    if len(maps) < _LEAST_MAPS or variance is None or not trial.trainable_parameters:
        return None
    sizes = np.log([found.trainable_parameters for found in maps])
    scores = np.array([found.score for found in maps])
    noises = np.array([variance / found.seeds for found in maps])
    if np.ptp(sizes) == 0:
        return None
    slope, level = np.polyfit(sizes, scores, 1)
    left = scores - (slope * sizes + level)
    own = max(0.0, float(left @ left) / (len(maps) - 2) - float(noises.mean()))
    line = float(slope * np.log(trial.trainable_parameters) + level)
    noise = variance / trial.seeds
    share = own / (own + noise) if own + noise > 0 else 1.0
    return line + share * (trial.score - line)


def _noise(evidence: Evidence, maps: list[ScoredTrial]) -> float | None:
    """Variance of a map's score by one training, as far as it counts between maps: half that of a difference."""
    best = max(maps, key=lambda trial: trial.score, default=None)
    found = [evidence.searched.difference(trial.number, best.number) for trial in maps if best and trial is not best]
    variances = [
        each.of_seed + (each.of_example + each.of_rest) / each.examples
        for each in found
        if each is not None and each.examples > 1
    ]
    return median(variances) / 2 if variances else None
