"""What the spectrum of one large training says of any map: the prior of the sampler's score model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from rank_search.core.space import Space

_LEAST = 1e-3  # share of all energy, below which a map counts as keeping so much


class EnergyModel:
    """The energy that a map keeps, as a logarithm.

    A map of these ranks keeps so many components of each module, each of which weighs its energy, such as the σ² of the
    large training's change ΔW: additive over modules, and never less for a higher rank. Scores rise with it ever more
    slowly, hence the logarithm. How far it is to be believed is the score model's to learn.

    Args:
        space: what is searched.
        energies: module → weight of each component, descending.
        drawn: maps by chance, ``[maps, dimensions + 1]``, whose mean and spread are the zero and the unit.
    """

    def __init__(self, space: Space, energies: Mapping[str, Sequence[float]], drawn: Tensor) -> None:
        kept = [
            [sum(sum(energies[module][:rank]) for module in modules) for rank in space.ladder]
            for modules in space.dimensions.values()
        ]
        self._kept = torch.as_tensor(np.array(kept))  # [dimensions, rungs]
        self._all = float(self._kept[:, -1].sum()) or 1.0
        self._middle, self._spread = 0.0, 1.0
        said = self(drawn)
        self._middle, self._spread = float(said.mean()), float(said.std()) or 1.0

    def __call__(self, x: Tensor) -> Tensor:
        """``[points, 1]``.

        Args:
            x: maps as points, ``[points, dimensions + 1]``, the indices into the ladder from 0 to 1.
        """
        rungs = self._kept.shape[1]
        indices = (x[:, :-1] * max(1, rungs - 1)).round().long()
        kept = self._kept.gather(1, indices.T).sum(dim=0) / self._all
        return (kept.clamp(min=_LEAST).log()[:, None] - self._middle) / self._spread
