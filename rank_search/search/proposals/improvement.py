"""Expected hypervolume improvement where one objective has noise and the other is known.

The noisy expected hypervolume improvement of arXiv:2105.08195 (equation 5), for one candidate at a time and a cost
without any uncertainty: then the improvement is a sum of rectangles below the candidate's score, and its expectation is
a mean over draws of a Gaussian process, without BoTorch's general partitioning of the space between the objectives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from botorch.utils.sampling import draw_sobol_normal_samples
from linear_operator.utils.cholesky import psd_safe_cholesky

if TYPE_CHECKING:
    from botorch.models import SingleTaskGP
    from torch import Tensor

_DRAWS = 128  # of the score's law
_BLOCK = 1024  # candidates that the model is asked for at once


class ExpectedImprovement:
    """How much hypervolume each candidate is expected to add to that of known maps.

    Args:
        model: of the score.
        known: maps that were trained or are in training, ``[known, features]``; scores are drawn for them as for
            candidates, as those that were seen have noise.
        costs: of these, ``[known]``.
        reference: score that counts for nothing, and cost.
        seed: of the draws.
    """

    def __init__(
        self, model: SingleTaskGP, known: Tensor, costs: Tensor, reference: tuple[float, float], seed: int
    ) -> None:
        self._model = model
        order = costs.argsort()
        known, costs = known[order], costs[order]
        base = draw_sobol_normal_samples(len(known) + 1, _DRAWS, dtype=known.dtype, seed=seed)
        with torch.no_grad():
            mean, covariance = self._law(known)
            root = psd_safe_cholesky(covariance)
            covariance = root @ root.T  # with what was added to its diagonal, so that a part of it has the same law
            drawn = mean + base[:, :-1] @ root.T
            stand = _stand(drawn, reference[0])
            self._known, self._own = known[stand], base[:, -1:]
            self._root = psd_safe_cholesky(covariance[stand][:, stand])
            self._white = _solved(self._root, (drawn - mean)[:, stand].T).T
        score, cost = reference
        # Best known score at or below each known cost: a stair, whose first step is the reference.
        self._stair = torch.cat([drawn.new_full((_DRAWS, 1), score), drawn[:, stand]], dim=1).cummax(dim=1).values
        self._starts = torch.cat([costs.new_zeros(1), costs[stand]])
        self._ends = torch.cat([costs[stand], costs.new_tensor([cost])])
        areas = (self._stair * (self._ends - self._starts)).cumsum(dim=1)
        self._areas = torch.cat([areas.new_zeros(_DRAWS, 1), areas[:, :-1]], dim=1)  # below the stair before each step

    def __call__(self, points: Tensor, costs: Tensor) -> Tensor:
        """Of each candidate, ``[points]``; it does not depend on the other candidates.

        Where no draw improves on what is known it is negative: how far the nearest draw stays behind.

        Args:
            points: candidates, ``[points, features]``.
            costs: of these, ``[points]``.
        """
        blocks = zip(torch.split(points, _BLOCK), torch.split(costs, _BLOCK), strict=True)
        with torch.no_grad():
            return torch.cat([self._gained(self._drawn(block), cost) for block, cost in blocks])

    def _gained(self, drawn: Tensor, costs: Tensor) -> Tensor:
        """Mean area between each candidate's score and the stair, from its cost to where the stair rises above it."""
        first = torch.searchsorted(self._starts, costs, right=True) - 1  # the step at the candidate's cost
        last = torch.searchsorted(self._stair, drawn) - 1  # the last step below its score
        rises, last = last >= first, last.clamp(min=0)
        below = self._areas[:, first] + self._stair[:, first] * (costs - self._starts[first])
        wide = self._ends[last] - self._starts[last]
        below = self._areas.gather(1, last) + self._stair.gather(1, last) * wide - below
        gain = torch.where(rises, drawn * (self._ends[last] - costs) - below, 0.0).mean(0)
        behind = (drawn - self._stair[:, first]).amax(dim=0)
        return torch.where(gain > 0, gain, behind.clamp(max=0))

    def _drawn(self, points: Tensor) -> Tensor:
        """Scores of candidates, given those drawn for the known maps: ``[draws, points]``."""
        mean, covariance = self._law(torch.cat([self._known, points]))
        known = len(self._known)
        weights = _solved(self._root, covariance[:known, known:])
        spread = (covariance.diagonal()[known:] - (weights**2).sum(dim=0)).clamp(min=0).sqrt()
        return mean[known:] + self._white @ weights + self._own * spread

    def _law(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and covariance of scores, ``[points]`` and ``[points, points]``."""
        law = self._model.posterior(points).distribution  # type: ignore[union-attr]
        return law.mean, law.covariance_matrix


def _stand(drawn: Tensor, reference: float) -> Tensor:
    """Which maps, ordered by cost, stand on the front in any draw: a candidate is never compared with the others.

    Args:
        drawn: scores, ``[draws, maps]``.
        reference: what a score must be above to count.
    """
    before = torch.cat([drawn.new_full((len(drawn), 1), reference), drawn[:, :-1]], dim=1).cummax(dim=1).values
    return (drawn > before).any(dim=0)


def _solved(root: Tensor, values: Tensor) -> Tensor:
    solved: Tensor = torch.linalg.solve_triangular(root, values, upper=False)
    return solved
