"""Expected hypervolume improvement where one objective has noise and the other is known.

The noisy expected hypervolume improvement of arXiv:2105.08195 (equation 5), for one candidate at a time and a price
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
_LARGEST_TENSOR = 20_000_000  # numbers
_BLOCK = 1024  # candidates at most that are drawn together


class ExpectedImprovement:
    """How much hypervolume each candidate is expected to add to that of known maps.

    Args:
        model: of the score.
        known: maps that were trained or are in training, ``[known, features]``; scores are drawn for them as for
            candidates, as those that were seen have noise.
        prices: of these, ``[known]``.
        reference: score that counts for nothing, and price.
        seed: of the draws.
    """

    def __init__(
        self, model: SingleTaskGP, known: Tensor, prices: Tensor, reference: tuple[float, float], seed: int
    ) -> None:
        self._model = model
        self._score, self._price = reference
        self._seed = seed
        order = prices.argsort()
        stand = self._stand(known[order])
        self._known, self._prices = known[order][stand], prices[order][stand]
        self._base = draw_sobol_normal_samples(len(self._known), _DRAWS, dtype=known.dtype, seed=seed)

    def __call__(self, points: Tensor, prices: Tensor) -> Tensor:
        """Of each candidate, ``[points]``; the same whatever others stand beside it, but for the draws of its own part.

        Where no draw improves on what is known it is negative: how far the nearest draw stays behind.

        Args:
            points: candidates, ``[points, features]``.
            prices: of these, ``[points]``.
        """
        rectangles = _DRAWS * (len(self._known) + 1)  # of each candidate
        size = max(32, min(_BLOCK, _LARGEST_TENSOR // rectangles))
        blocks = zip(torch.split(points, size), torch.split(prices, size), strict=True)
        with torch.no_grad():
            return torch.cat([self._of_block(*block) for block in blocks])

    def _stand(self, known: Tensor) -> Tensor:
        """Which maps, ordered by price, stand on the front in any draw: no other can be what a candidate is above."""
        with torch.no_grad():
            law = self._model.posterior(known).distribution  # type: ignore[union-attr]
            base = draw_sobol_normal_samples(len(known), _DRAWS, dtype=known.dtype, seed=self._seed)
            drawn = law.mean + base @ psd_safe_cholesky(law.covariance_matrix).T
        before = torch.cat([drawn.new_full((_DRAWS, 1), self._score), drawn[:, :-1]], dim=1).cummax(dim=1).values
        stand: Tensor = (drawn > before).any(dim=0)
        stand[0] = True
        return stand

    def _of_block(self, points: Tensor, prices: Tensor) -> Tensor:
        known, draws = self._drawn(points)
        # Best known score at or below each known price: a stair, whose first step is the reference.
        stair = torch.cat([known.new_full((_DRAWS, 1), self._score), known], dim=1).cummax(dim=1).values
        edges = torch.cat([self._prices, self._prices.new_tensor([self._price])])
        starts = torch.cat([self._prices.new_tensor([-torch.inf]), self._prices])
        widths = (edges - torch.maximum(starts, prices[:, None])).clamp(min=0)  # of each step beyond the candidate
        above = draws[:, :, None] - stair[:, None, :]  # [draws, points, steps]
        gain = (above.clamp(min=0) * widths).sum(-1).mean(0)
        behind = torch.where(widths > 0, above, -torch.inf).amax(dim=(0, 2))
        return torch.where(gain > 0, gain, behind.clamp(max=0))

    def _drawn(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of known maps, the same each time, and of candidates: ``[draws, known]`` and ``[draws, points]``."""
        law = self._model.posterior(torch.cat([self._known, points])).distribution  # type: ignore[union-attr]
        own = draw_sobol_normal_samples(len(points), _DRAWS, dtype=points.dtype, seed=self._seed + 1)
        root = psd_safe_cholesky(law.covariance_matrix)
        drawn = law.mean + torch.cat([self._base, own], dim=1) @ root.T
        return drawn[:, : len(self._known)], drawn[:, len(self._known) :]
