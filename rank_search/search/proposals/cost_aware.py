"""Proposals that know what they cost: a sampler that models the score alone, and takes the price as given.

Bayesian optimisation by noisy expected hypervolume improvement (arXiv:2105.08195). The score is a Gaussian process, by
BoTorch; the number of parameters of a map is exact, and needs no model.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from rank_search.core import pareto
from rank_search.core.batch_order import ROUND, level
from rank_search.search.proposals.score_model import quiet, score_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial
    from torch import Tensor

    from rank_search.search.proposals.encoder import Coding, Proposal

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # BoTorch uses torch.jit.script
    from botorch.utils.sampling import manual_seed

    from rank_search.search.proposals.improvement import ExpectedImprovement

_TELLING = 5  # degrees of freedom, from which on the noise of repeats is taken as known
_LEAST = 3  # maps with a score, before which proposals are drawn by chance
_ENUMERATED = 4096  # proposals of a space, up to which each of them is looked at
_DRAWN = 1024  # of a larger space, drawn by chance
_MODELLED = 300  # maps at most that the model is fitted to
_FRONT = 16  # maps of the front whose neighbours are looked at in a larger space
_CLIMBS = 8  # from the best proposal to a better neighbour, in a larger space


class KnownPriceSampler(BaseSampler):
    """Proposes the map that is expected to add most to the hypervolume, given all that was seen.

    Maps that are in training count with the scores that the model draws for them, so that proposals of one pack
    differ.

    Args:
        seed: of all draws.
        coding: of the space that is searched; it says what each map costs.
    """

    def __init__(self, seed: int, coding: Coding) -> None:
        self._seed = seed
        self._space = coding.space
        self._coding = coding

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing: the space is given with each call."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Never asked for: a map is proposed whole."""
        raise NotImplementedError

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The best proposal that no trial has; one by chance where there is too little to go by, or none left."""
        others = [of for of in study.get_trials(deepcopy=False) if of.number != trial.number]
        others = [of for of in others if self._coding.names <= of.params.keys()]
        seen = {frozenset(of.params.items()) for of in others}
        draw = np.random.default_rng(self._seed)
        observed = _Observed.of([of for of in others if of.state == TrialState.COMPLETE])
        observed = observed.limited(_MODELLED, draw)
        pool = [of for of in self._pool(draw, observed) if frozenset(of.items()) not in seen]
        if not pool or len(observed.scores) < _LEAST:
            return self._coding.drawn(draw)
        pending = [of.params for of in others if of.state == TrialState.RUNNING]
        with quiet(), manual_seed(self._seed):
            improvement = self._improvement(observed, pending)
            best = self._best(pool, improvement)
            if self._space.size > _ENUMERATED:
                best = self._climbed(best, improvement, seen)
        return dict(best)

    def _improvement(self, observed: _Observed, pending: Sequence[Proposal]) -> ExpectedImprovement:
        """Expected improvement over what was trained and is in training."""
        x = self._coding.points(observed.proposals)
        ranks, expected = len(self._space.dimensions), self._coding.expects
        rungs = len(self._space.ladder)
        model = score_model(x, observed.scores, observed.variances, ranks=ranks, rungs=rungs, expected=expected)
        known = torch.cat([x, self._coding.points(pending)]) if pending else x
        reference = (observed.reference, self._space.reference_parameters / self._space.most_parameters)
        return ExpectedImprovement(model, known, self._price(known), reference, self._seed)

    def _price(self, points: Tensor) -> Tensor:
        """As a share of the largest map's, ``[points]``."""
        return -self._coding.negative_price(points)[..., 0]

    def _best(self, pool: Sequence[Proposal], improvement: ExpectedImprovement) -> Proposal:
        """The proposal that is expected to add most."""
        points = self._coding.points(pool)
        return pool[int(improvement(points, self._price(points)).argmax())]

    def _pool(self, draw: np.random.Generator, observed: _Observed) -> list[Proposal]:
        """Proposals to look at: all of a small space; of a larger one some by chance, and neighbours of the front."""
        if self._space.size <= _ENUMERATED:
            return self._coding.every()
        found = [self._coding.drawn(draw) for _ in range(_DRAWN)]
        for proposal in observed.front(_FRONT):
            found += self._coding.neighbours(proposal, draw)
        return list({frozenset(of.items()): of for of in found}.values())

    def _climbed(
        self, best: Proposal, improvement: ExpectedImprovement, seen: set[frozenset[tuple[str, float]]]
    ) -> Proposal:
        """A neighbour, or a neighbour's neighbour, as long as that adds more."""
        draw = np.random.default_rng(self._seed)
        for _ in range(_CLIMBS):
            around = [of for of in self._coding.neighbours(best, draw) if frozenset(of.items()) not in seen]
            better = self._best([best, *around], improvement)
            if better == best:
                break
            best = better
        return best


@dataclass(frozen=True)
class _Observed:
    """What is known of the maps that were trained.

    Attributes:
        proposals: of each.
        scores: mean over its trainings.
        prices: parameters of each.
        variances: of these means; None where there were too few repeats to tell the noise by.
        reference: the score that a map must beat to count: the smallest map's.
    """

    proposals: list[Proposal]
    scores: np.ndarray
    prices: np.ndarray
    variances: np.ndarray | None
    reference: float

    @classmethod
    def of(cls, trials: Sequence[FrozenTrial]) -> _Observed:
        """From complete trials."""
        if not trials:
            return cls([], np.array([]), np.array([]), None, 0.0)
        rows = pd.DataFrame(
            {
                "name": [str(sorted(of.params.items())) for of in trials],
                "round": [of.user_attrs.get(ROUND, 0) for of in trials],
                "score": [of.values[0] for of in trials],
                "price": [of.values[1] for of in trials],
                "params": [of.params for of in trials],
            }
        )
        levels = level(rows)
        first = rows.drop_duplicates("name")
        scores = np.array([levels.mean[name] for name in first["name"]])
        variances = np.array([levels.se[name] ** 2 for name in first["name"]])
        prices = first["price"].to_numpy(dtype=float)
        reference = float(scores[prices.argmin()])
        known = variances if levels.sigma > 0 and levels.freedom >= _TELLING else None
        return cls(first["params"].tolist(), scores, prices, known, reference)

    def limited(self, most: int, draw: np.random.Generator) -> _Observed:
        """These maps or, if there are more, half of ``most`` nearest the front and half by chance among the others."""
        if len(self.scores) <= most:
            return self
        objectives = np.column_stack([-self.scores, self.prices])
        nearest = _nearest(pareto.dominance_ranks(objectives), self.prices, most // 2)
        others = np.setdiff1d(np.arange(len(self.scores)), nearest)
        kept = np.sort(np.concatenate([nearest, draw.choice(others, most - len(nearest), replace=False)]))
        variances = None if self.variances is None else self.variances[kept]
        proposals = [self.proposals[i] for i in kept]
        return _Observed(proposals, self.scores[kept], self.prices[kept], variances, self.reference)

    def front(self, most: int) -> list[Proposal]:
        """Proposals on the front, some of them evenly if there are many."""
        (on_front,) = np.nonzero(pareto.dominance_ranks(np.column_stack([-self.scores, self.prices])) == 0)
        by_price = on_front[np.argsort(self.prices[on_front])]
        places = np.unique(np.linspace(0, len(by_price) - 1, min(most, len(by_price))).astype(int))
        return [self.proposals[i] for i in by_price[places]]


def _nearest(ranks: np.ndarray, prices: np.ndarray, count: int) -> np.ndarray:
    """Positions of the first so many by rank; of the rank that goes in part, some of every price."""
    by_rank = np.argsort(ranks, kind="stable")
    last = ranks[by_rank[count - 1]]
    (whole,), (part,) = np.nonzero(ranks < last), np.nonzero(ranks == last)
    by_price = part[np.argsort(prices[part], kind="stable")]
    places = np.linspace(0, len(by_price) - 1, count - len(whole)).round().astype(int)
    return np.concatenate([whole, by_price[places]])
