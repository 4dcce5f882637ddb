"""The encoder of proposals: from a proposal to the features that a model of the score takes."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch

from rank_search.search.proposals.energy_model import EnergyModel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from rank_search.core.space import Space

_DRAWN = 256  # maps by chance, whose spread is the unit of what energies say
_SWAPS = 64  # of a proposal, that are looked at

Proposal = dict[str, float]


class Encoder:
    """Encodes a space's proposals as points: each dimension from 0 to 1, and the cost on a log scale at the end.

    The cost (trainable parameters) is a feature of its own, since the score saturates with the size of a map,
    whichever layers it is in.

    Args:
        space: what is searched.
        energies: module → weight of each component, such as σ² of a large training's change, if they are known. What
            these say of a map is then the last feature but one.
    """

    def __init__(
        self,
        space: Space,
        energies: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self.space = space
        self.names = {*space.dimensions, *space.joint}
        self._most = float(space.most_parameters)
        costs = {
            name: sum(sum(space.shapes[module]) for module in modules) for name, modules in space.dimensions.items()
        }
        self._unit = float(min(costs.values()) * next(rank for rank in space.ladder if rank))
        self._costs = np.array([costs[name] for name in space.dimensions], dtype=float)
        self._log_most = math.log1p(self._most / self._unit)
        self._expected: EnergyModel | None = None
        if energies is not None:
            draw = np.random.default_rng(0)
            drawn = self.ranks([self.drawn(draw) for _ in range(_DRAWN)])
            self._expected = EnergyModel(space, energies, drawn)

    @property
    def expects(self) -> bool:
        """Whether points hold what energies say."""
        return self._expected is not None

    def points(self, proposals: Sequence[Mapping[str, float]]) -> Tensor:
        """``[proposals, features]`` in double precision."""
        ranks = self.ranks(proposals)
        joint = [
            [
                _share(proposal[name], setting.low, setting.high, log=setting.log)
                for name, setting in self.space.joint.items()
            ]
            for proposal in proposals
        ]
        settings = torch.as_tensor(np.array(joint).reshape(len(proposals), -1))
        expected = ranks[:, :0] if self._expected is None else self._expected(ranks)
        return torch.cat([ranks[:, :-1], settings, expected, ranks[:, -1:]], dim=1)

    def ranks(self, proposals: Sequence[Mapping[str, float]]) -> Tensor:
        """``[proposals, dimensions + 1]``: ranks and cost alone."""
        top = max(1, len(self.space.ladder) - 1)
        shares = self._indices(proposals) / top
        costs = self.parameters(proposals)
        return torch.as_tensor(np.column_stack([shares, np.log1p(costs / self._unit) / self._log_most]))

    def parameters(self, proposals: Sequence[Mapping[str, float]]) -> np.ndarray:
        """Trainable parameters of each, ``[proposals]``."""
        costs: np.ndarray = np.array(self.space.ladder)[self._indices(proposals)] @ self._costs
        return costs

    def _indices(self, proposals: Sequence[Mapping[str, float]]) -> np.ndarray:
        """Into the ladder, ``[proposals, dimensions]``."""
        return np.array([[proposal[name] for name in self.space.dimensions] for proposal in proposals]).astype(int)

    def negative_cost(self, points: Tensor) -> Tensor:
        """Parameters as a share of the largest map's, negative as both objectives are maximised: ``[…, 1]``."""
        return -torch.expm1(points[..., -1:] * self._log_most) * self._unit / self._most

    def every(self) -> list[Proposal]:
        """Every proposal of a space that is small and has no ranges."""
        rungs = [range(len(self.space.ladder))] * len(self.space.dimensions) + [range(2)] * len(self.space.joint)
        names = [*self.space.dimensions, *self.space.joint]
        return [dict(zip(names, indices, strict=True)) for indices in product(*rungs)]

    def drawn(self, draw: np.random.Generator, budget: int | None = None) -> Proposal:
        """A proposal by chance, whose size is drawn first, so that small maps come up as often as large ones.

        Args:
            draw: of all that is drawn.
            budget: parameters that it has at most, by leaving out dimensions drawn by chance; None for no bound.
        """
        size = draw.random()
        top = len(self.space.ladder) - 1
        proposal: Proposal = {name: int(draw.binomial(top, size)) for name in self.space.dimensions}
        if budget is not None:
            names = [*self.space.dimensions]
            costs = self._costs * np.array(self.space.ladder)[self._indices([proposal])[0]]
            order = draw.permutation(len(names))
            for i in order[np.cumsum(costs[order]) > budget]:
                proposal[names[i]] = 0
        for name, setting in self.space.joint.items():
            share = float(draw.integers(2)) if setting.switch else draw.random()
            proposal[name] = _value(share, setting.low, setting.high, log=setting.log, whole=setting.switch)
        return proposal

    def neighbours(self, proposal: Proposal, draw: np.random.Generator) -> list[Proposal]:
        """One rung up or down in each dimension, some swaps, and each joint setting drawn near where it is."""
        top = len(self.space.ladder) - 1
        found = []
        for name in self.space.dimensions:
            found += [
                {**proposal, name: proposal[name] + step} for step in (-1, 1) if 0 <= proposal[name] + step <= top
            ]
        found += self._swaps(proposal, draw)
        for name, setting in self.space.joint.items():
            share = _share(proposal[name], setting.low, setting.high, log=setting.log)
            near = 1 - share if setting.switch else float(np.clip(share + draw.normal(0, 0.1), 0, 1))
            value = _value(near, setting.low, setting.high, log=setting.log, whole=setting.switch)
            found.append({**proposal, name: value})
        return found

    def _swaps(self, proposal: Proposal, draw: np.random.Generator) -> list[Proposal]:
        """One dimension a rung down and another one a rung up, some of all such pairs."""
        top = len(self.space.ladder) - 1
        lower = [name for name in self.space.dimensions if proposal[name] > 0]
        higher = [name for name in self.space.dimensions if proposal[name] < top]
        pairs = [(down, up) for down in lower for up in higher if down != up]
        if len(pairs) > _SWAPS:
            pairs = [pairs[i] for i in draw.choice(len(pairs), _SWAPS, replace=False)]
        return [{**proposal, down: proposal[down] - 1, up: proposal[up] + 1} for down, up in pairs]


def _share(value: float, low: float, high: float, *, log: bool) -> float:
    """Where a value lies between two bounds."""
    if log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def _value(share: float, low: float, high: float, *, log: bool, whole: bool) -> float:
    """The value at a place between two bounds."""
    if whole:
        return round(share)
    value = low * (high / low) ** share if log else low + share * (high - low)
    return min(max(value, low), high)  # rounding may lead out of the range by its last digit, which Optuna refuses
