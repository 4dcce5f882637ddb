"""The default sampler: it models the score of a map, and takes its cost, which is known exactly, as given.

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
from rank_search.core.batch_order import fit_map_means
from rank_search.search.proposals.score_model import quiet, score_model
from rank_search.study.record import TrialAttributes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial
    from torch import Tensor

    from rank_search.search.proposals.encoder import Encoder, Proposal

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


class CostAwareSampler(BaseSampler):
    """Proposes the map that is expected to add most to the hypervolume, given all that was seen.

    Maps that are in training count with the scores that the model draws for them, so that proposals of one pack
    differ.

    Args:
        seed: of all draws.
        encoder: of the space that is searched; it says what each map costs.
        budget: trainable parameters that a proposal may have at most; None for no bound.
    """

    def __init__(self, seed: int, encoder: Encoder, budget: int | None = None) -> None:
        self._seed = seed
        self._budget = budget
        self._space = encoder.space
        self._encoder = encoder

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
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        others = [other for other in others if self._encoder.names <= other.params.keys()]
        seen = {frozenset(other.params.items()) for other in others}
        draw = np.random.default_rng(self._seed)
        observed = _Observed.from_trials([other for other in others if other.state == TrialState.COMPLETE])
        observed = observed.limited(_MODELLED, draw)
        pool = self._new(self._pool(draw, observed), seen)
        if not pool or len(observed.scores) < _LEAST:
            return self._encoder.drawn(draw, self._budget)
        pending = [other.params for other in others if other.state == TrialState.RUNNING]
        with quiet(), manual_seed(self._seed):
            improvement = self._improvement(observed, pending)
            best = self._best(pool, improvement)
            if self._space.size > _ENUMERATED:
                best = self._climbed(best, improvement, seen)
        return dict(best)

    def _improvement(self, observed: _Observed, pending: Sequence[Proposal]) -> ExpectedImprovement:
        """Expected improvement over what was trained and is in training."""
        x = self._encoder.points(observed.proposals)
        ranks, expected = len(self._space.dimensions), self._encoder.expects
        rungs = len(self._space.ladder)
        model = score_model(x, observed.scores, observed.variances, ranks=ranks, rungs=rungs, expected=expected)
        known = torch.cat([x, self._encoder.points(pending)]) if pending else x
        reference = (observed.reference, self._space.reference_parameters / self._space.most_parameters)
        return ExpectedImprovement(model, known, self._cost(known), reference, self._seed)

    def _cost(self, points: Tensor) -> Tensor:
        """As a share of the largest map's, ``[points]``."""
        return -self._encoder.negative_cost(points)[..., 0]

    def _best(self, pool: Sequence[Proposal], improvement: ExpectedImprovement) -> Proposal:
        """The proposal that is expected to add most."""
        points = self._encoder.points(pool)
        return pool[int(improvement(points, self._cost(points)).argmax())]

    def _pool(self, draw: np.random.Generator, observed: _Observed) -> list[Proposal]:
        """Proposals to look at: all of a small space; of a larger one some by chance, and neighbours of the front."""
        if self._space.size <= _ENUMERATED:
            return self._encoder.every()
        found = [self._encoder.drawn(draw, self._budget) for _ in range(_DRAWN)]
        for proposal in observed.front(_FRONT):
            found += self._encoder.neighbours(proposal, draw)
        return list({frozenset(proposal.items()): proposal for proposal in found}.values())

    def _new(self, proposals: Sequence[Proposal], seen: set[frozenset[tuple[str, float]]]) -> list[Proposal]:
        """Those that no trial has, and that are within the budget."""
        new = [proposal for proposal in proposals if frozenset(proposal.items()) not in seen]
        if self._budget is None or not new:
            return new
        costs = self._encoder.parameters(new)
        return [proposal for proposal, cost in zip(new, costs, strict=True) if cost <= self._budget]

    def _climbed(
        self, best: Proposal, improvement: ExpectedImprovement, seen: set[frozenset[tuple[str, float]]]
    ) -> Proposal:
        """A neighbour, or a neighbour's neighbour, as long as that adds more."""
        draw = np.random.default_rng(self._seed)
        for _ in range(_CLIMBS):
            around = self._new(self._encoder.neighbours(best, draw), seen)
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
        costs: parameters of each.
        variances: of these means; None where too few repeats show the noise.
        reference: the score that a map must beat to count: the smallest map's.
    """

    proposals: list[Proposal]
    scores: np.ndarray
    costs: np.ndarray
    variances: np.ndarray | None
    reference: float

    @classmethod
    def from_trials(cls, trials: Sequence[FrozenTrial]) -> _Observed:
        """From complete trials."""
        if not trials:
            return cls([], np.array([]), np.array([]), None, 0.0)
        rows = pd.DataFrame(
            {
                "name": [str(sorted(trial.params.items())) for trial in trials],
                "batch_order": [TrialAttributes.read(trial).batch_order for trial in trials],
                "score": [trial.values[0] for trial in trials],
                "cost": [trial.values[1] for trial in trials],
                "params": [trial.params for trial in trials],
            }
        )
        means = fit_map_means(rows)
        first = rows.drop_duplicates("name")
        scores = np.array([means.mean[name] for name in first["name"]])
        variances = np.array([means.se[name] ** 2 for name in first["name"]])
        costs = first["cost"].to_numpy(dtype=float)
        reference = float(scores[costs.argmin()])
        known = variances if means.sigma > 0 and means.freedom >= _TELLING else None
        return cls(first["params"].tolist(), scores, costs, known, reference)

    def limited(self, most: int, draw: np.random.Generator) -> _Observed:
        """These maps or, if there are more, half of ``most`` nearest the front and half by chance among the others."""
        if len(self.scores) <= most:
            return self
        objectives = np.column_stack([-self.scores, self.costs])
        nearest = _nearest(pareto.dominance_ranks(objectives), self.costs, most // 2)
        others = np.setdiff1d(np.arange(len(self.scores)), nearest)
        kept = np.sort(np.concatenate([nearest, draw.choice(others, most - len(nearest), replace=False)]))
        variances = None if self.variances is None else self.variances[kept]
        proposals = [self.proposals[i] for i in kept]
        return _Observed(proposals, self.scores[kept], self.costs[kept], variances, self.reference)

    def front(self, most: int) -> list[Proposal]:
        """Proposals on the front, some of them evenly if there are many."""
        (on_front,) = np.nonzero(pareto.dominance_ranks(np.column_stack([-self.scores, self.costs])) == 0)
        by_cost = on_front[np.argsort(self.costs[on_front])]
        places = np.unique(np.linspace(0, len(by_cost) - 1, min(most, len(by_cost))).astype(int))
        return [self.proposals[i] for i in by_cost[places]]


def _nearest(ranks: np.ndarray, costs: np.ndarray, count: int) -> np.ndarray:
    """Positions of the first so many by rank; of the rank that goes in part, some of every cost."""
    by_rank = np.argsort(ranks, kind="stable")
    last = ranks[by_rank[count - 1]]
    (whole,), (part,) = np.nonzero(ranks < last), np.nonzero(ranks == last)
    by_cost = part[np.argsort(costs[part], kind="stable")]
    places = np.linspace(0, len(by_cost) - 1, count - len(whole)).round().astype(int)
    return np.concatenate([whole, by_cost[places]])
