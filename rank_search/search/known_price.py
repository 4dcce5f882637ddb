"""Proposals that know what they cost: a sampler that models the score alone, and takes the price as given.

Bayesian optimisation by noisy expected hypervolume improvement (qLogNEHVI: arXiv:2105.08195, arXiv:2310.20708), by
BoTorch. The score is a Gaussian process; the number of parameters of a map is exact, and needs no model.
"""

from __future__ import annotations

import math
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from optuna.samplers import BaseSampler

# Optuna has no public function for this; it is what its own samplers call.
from optuna.study._multi_objective import _fast_non_domination_rank
from optuna.trial import TrialState

from rank_search.search.levels import ROUND, level

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial
    from torch import Tensor

    from rank_search.space import Space

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # they use torch.jit.script
    from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
    from botorch.exceptions.errors import ModelFittingError
    from botorch.exceptions.warnings import BotorchWarning
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import ModelList, SingleTaskGP
    from botorch.models.deterministic import GenericDeterministicModel
    from botorch.models.transforms import Standardize
    from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
    from botorch.sampling.get_sampler import get_sampler
    from botorch.utils.sampling import manual_seed
    from gpytorch.kernels import RBFKernel, ScaleKernel
    from gpytorch.means import Mean
    from gpytorch.mlls import ExactMarginalLogLikelihood
    from gpytorch.priors import LogNormalPrior, NormalPrior
    from gpytorch.settings import skip_posterior_variances
    from linear_operator.utils.warnings import NumericalWarning

_LEAST = 3  # maps with a score, before which proposals are drawn by chance
_ENUMERATED = 4096  # proposals of a space, up to which each of them is looked at
_DRAWN = 1024  # of a larger space, drawn by chance
_FRONT = 16  # maps of the front whose neighbours are looked at in a larger space
_CLIMBS = 8  # from the best proposal to a better neighbour, in a larger space
_SAMPLES = 128  # of the score's law
_FIT_STEPS = 50  # of L-BFGS on the hyperparameters, which would go on along flat directions for hundreds
_TRUST = 0.5  # spreads of the scores, that a spread of nested ones is believed to be worth before any is seen
_LARGEST_TENSOR = 10_000_000  # numbers


class KnownPriceSampler(BaseSampler):
    """Proposes the map that is expected to add most to the hypervolume, given all that was seen.

    Maps that are in training count as if their score were known to be what the model says, so that proposals of
    one pack differ.

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
        pool = [of for of in self._pool(draw, observed) if frozenset(of.items()) not in seen]
        if not pool or len(observed.scores) < _LEAST:
            return self._coding.drawn(draw)
        pending = [of.params for of in others if of.state == TrialState.RUNNING]
        with _quiet(), manual_seed(self._seed):
            value = self._acquisition(observed, pending)
            best, worth = _best(pool, value, self._coding)
            if self._space.size > _ENUMERATED:
                best = self._climbed(best, worth, value, seen)
        return dict(best)

    def _acquisition(self, observed: _Observed, pending: Sequence[Proposal]) -> Callable[[Tensor], Tensor]:
        """Expected improvement of each point ``[points, features]``, on a log scale."""
        x = self._coding.points(observed.proposals)
        mean = None if self._coding.expected is None else _FromExpected()
        score = _score_model(x, observed.scores, observed.variances, mean)
        model = ModelList(score, GenericDeterministicModel(self._coding.negative_price))
        improvement = qLogNoisyExpectedHypervolumeImprovement(
            model=model,
            ref_point=[observed.reference, -self._space.reference_parameters / self._space.most_parameters],
            X_baseline=x,
            X_pending=self._coding.points(pending) if pending else None,
            sampler=get_sampler(model.posterior(x[:1]), torch.Size([_SAMPLES]), seed=self._seed),  # type: ignore[arg-type]
            prune_baseline=True,
            cache_root=False,  # a deterministic model has no root to cache
        )

        # A chunk's largest tensor is the kernel of every point, with all maps that were trained, by each feature.
        chunk_size = max(1, _LARGEST_TENSOR // (x.shape[1] * (2 * len(x)) ** 2))

        def value(points: Tensor) -> Tensor:
            with torch.no_grad():
                return torch.cat([improvement(chunk[:, None]) for chunk in torch.split(points, chunk_size)])

        return value

    def _pool(self, draw: np.random.Generator, observed: _Observed) -> list[Proposal]:
        """Proposals to look at: all of a small space; of a larger one some by chance, and neighbours of the front."""
        if self._space.size <= _ENUMERATED:
            return self._coding.every()
        found = [self._coding.drawn(draw) for _ in range(_DRAWN)]
        for proposal in observed.front(_FRONT):
            found += self._coding.neighbours(proposal, draw)
        return list({frozenset(of.items()): of for of in found}.values())

    def _climbed(
        self, best: Proposal, worth: float, value: Callable[[Tensor], Tensor], seen: set[frozenset[tuple[str, float]]]
    ) -> Proposal:
        """A neighbour, or a neighbour's neighbour, as long as that is worth more."""
        draw = np.random.default_rng(self._seed)
        for _ in range(_CLIMBS):
            around = [of for of in self._coding.neighbours(best, draw) if frozenset(of.items()) not in seen]
            if not around:
                break
            candidate, of_candidate = _best(around, value, self._coding)
            if of_candidate <= worth:
                break
            best, worth = candidate, of_candidate
        return best


Proposal = dict[str, float]


class Coding:
    """A space's proposals as points: each dimension from 0 to 1, and the price on a log scale at the end.

    The price is a feature of its own since the score saturates with the size of a map, whichever layers it is in.

    Args:
        space: what is searched.
        nested: proposals with their nested scores, if there are any. What these say of a map is then the last
            feature but one.
    """

    def __init__(self, space: Space, nested: Sequence[tuple[Mapping[str, float], float]] = ()) -> None:
        self.space = space
        self.names = {*space.dimensions, *space.joint}
        self._most = float(space.most_parameters)
        costs = {name: sum(sum(space.shapes[of]) for of in modules) for name, modules in space.dimensions.items()}
        self._unit = float(min(costs.values()) * next(rank for rank in space.ladder if rank))
        self._costs = np.array([costs[name] for name in space.dimensions], dtype=float)
        self._log_most = math.log1p(self._most / self._unit)
        self.expected = _Expected(self, nested) if len(nested) >= _LEAST else None

    def points(self, proposals: Sequence[Mapping[str, float]]) -> Tensor:
        """``[proposals, features]`` in double precision."""
        ranks = self.ranks(proposals)
        joint = [
            [_share(of[name], setting.low, setting.high, log=setting.log) for name, setting in self.space.joint.items()]
            for of in proposals
        ]
        settings = torch.as_tensor(np.array(joint).reshape(len(proposals), -1))
        expected = ranks[:, :0] if self.expected is None else self.expected.of(ranks)
        return torch.cat([ranks[:, :-1], settings, expected, ranks[:, -1:]], dim=1)

    def ranks(self, proposals: Sequence[Mapping[str, float]]) -> Tensor:
        """``[proposals, dimensions + 1]``: ranks and price alone."""
        top = max(1, len(self.space.ladder) - 1)
        indices = np.array([[of[name] for name in self.space.dimensions] for of in proposals])
        prices = np.array(self.space.ladder)[indices.astype(int)] @ self._costs
        return torch.as_tensor(np.column_stack([indices / top, np.log1p(prices / self._unit) / self._log_most]))

    def negative_price(self, points: Tensor) -> Tensor:
        """Parameters as a share of the largest map's, negative as both objectives are maximised: ``[…, 1]``."""
        return -torch.expm1(points[..., -1:] * self._log_most) * self._unit / self._most

    def every(self) -> list[Proposal]:
        """Every proposal of a space that is small and has no ranges."""
        rungs = [range(len(self.space.ladder))] * len(self.space.dimensions) + [range(2)] * len(self.space.joint)
        names = [*self.space.dimensions, *self.space.joint]
        return [dict(zip(names, of, strict=True)) for of in product(*rungs)]

    def drawn(self, draw: np.random.Generator) -> Proposal:
        """A proposal by chance, whose size is drawn first, so that small maps come up as often as large ones."""
        size = draw.random()
        top = len(self.space.ladder) - 1
        proposal: Proposal = {name: int(draw.binomial(top, size)) for name in self.space.dimensions}
        for name, setting in self.space.joint.items():
            share = float(draw.integers(2)) if setting.switch else draw.random()
            proposal[name] = _value(share, setting.low, setting.high, log=setting.log, whole=setting.switch)
        return proposal

    def neighbours(self, proposal: Proposal, draw: np.random.Generator) -> list[Proposal]:
        """One rung up or down in each dimension, and each joint setting drawn near where it is."""
        top = len(self.space.ladder) - 1
        found = []
        for name in self.space.dimensions:
            found += [
                {**proposal, name: proposal[name] + step} for step in (-1, 1) if 0 <= proposal[name] + step <= top
            ]
        for name, setting in self.space.joint.items():
            share = _share(proposal[name], setting.low, setting.high, log=setting.log)
            near = 1 - share if setting.switch else float(np.clip(share + draw.normal(0, 0.1), 0, 1))
            value = _value(near, setting.low, setting.high, log=setting.log, whole=setting.switch)
            found.append({**proposal, name: value})
        return found


@dataclass(frozen=True)
class _Observed:
    """What is known of the maps that were trained.

    Attributes:
        proposals: of each.
        scores: mean over its trainings.
        prices: parameters of each.
        variances: of these means; None where there were no repeats to tell the noise by.
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
        known = variances if levels.sigma > 0 else None
        return cls(first["params"].tolist(), scores, prices, known, reference)

    def front(self, most: int) -> list[Proposal]:
        """Proposals on the front, some of them evenly if there are many."""
        (on_front,) = np.nonzero(_fast_non_domination_rank(np.column_stack([-self.scores, self.prices])) == 0)
        by_price = on_front[np.argsort(self.prices[on_front])]
        places = np.unique(np.linspace(0, len(by_price) - 1, min(most, len(by_price))).astype(int))
        return [self.proposals[i] for i in by_price[places]]


class _OwnParts(RBFKernel):  # type: ignore[misc]  # GPyTorch is untyped
    """What each feature adds by itself: the mean of squared exponential kernels of one feature each.

    They share their length scale, so that few maps are enough to fit it. GPyTorch's own kernel of this kind is
    deprecated in favour of kernels like this one.
    """

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: Any) -> Tensor:
        """``[…, n, m]``, or ``[…, n]`` of the diagonal alone, from ``[…, n, features]`` and ``[…, m, features]``."""
        parts: Tensor = super().forward(x1.mT[..., None], x2.mT[..., None], diag=diag, **params)
        return parts.mean(dim=-2 if diag else -3)


class _Expected:
    """What nested scores say of any map: the mean of a Gaussian process, with the spread of the scores as its unit."""

    def __init__(self, coding: Coding, nested: Sequence[tuple[Mapping[str, float], float]]) -> None:
        scores = np.array([score for _, score in nested])
        self._middle, self._spread = float(scores.mean()), float(scores.std()) or 1.0
        with _quiet():
            self._model = _score_model(coding.ranks([proposal for proposal, _ in nested]), scores)

    def of(self, ranks: Tensor) -> Tensor:
        """``[proposals, 1]`` from `Coding.ranks`."""
        with torch.no_grad(), skip_posterior_variances():
            return (self._model.posterior(ranks).mean - self._middle) / self._spread


class _FromExpected(Mean):  # type: ignore[misc]  # GPyTorch is untyped
    """A constant, and so much of what is expected as the scores bear out.

    A cheap score times a factor, and a Gaussian process for what that leaves: Kennedy and O'Hagan's autoregressive
    model of two fidelities (doi:10.1093/biomet/87.1.1).
    """

    def __init__(self) -> None:
        super().__init__()
        self.constant = torch.nn.Parameter(torch.zeros(()))
        self.factor = torch.nn.Parameter(torch.full((), _TRUST))
        self.register_prior("factor_prior", NormalPrior(_TRUST, _TRUST), "factor")

    def forward(self, x: Tensor) -> Tensor:
        """``[…, n]`` from points ``[…, n, features]``."""
        return self.constant + self.factor * x[..., -2]


def _score_model(
    x: Tensor, scores: np.ndarray, variances: np.ndarray | None = None, mean: Mean | None = None
) -> SingleTaskGP:
    """A Gaussian process for the score: each layer's own part, and what they make together.

    The noise is that of the repeats; without them it is fitted with the rest.
    """
    features = x.shape[-1]
    own = _OwnParts(lengthscale_prior=LogNormalPrior(0.0, 1.0))
    together = get_covar_module_with_dim_scaled_prior(features)
    model = SingleTaskGP(
        x,
        torch.as_tensor(scores)[:, None],
        train_Yvar=None if variances is None else torch.as_tensor(variances)[:, None],
        covar_module=ScaleKernel(own) + ScaleKernel(together),
        mean_module=mean,
        outcome_transform=Standardize(1),
    )
    try:
        likelihood = ExactMarginalLogLikelihood(model.likelihood, model)
        fit_gpytorch_mll(likelihood, optimizer_kwargs={"options": {"maxiter": _FIT_STEPS}})
    except ModelFittingError:  # it goes on with the hyperparameters that it began with
        model.eval()
    return model


def _best(pool: Sequence[Proposal], value: Callable[[Tensor], Tensor], coding: Coding) -> tuple[Proposal, float]:
    """The proposal that is worth most, and its worth."""
    values = value(coding.points(pool))
    place = int(values.argmax())
    return pool[place], float(values[place])


def _share(value: float, low: float, high: float, *, log: bool) -> float:
    """Where a value lies between two bounds."""
    if log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def _value(share: float, low: float, high: float, *, log: bool, whole: bool) -> float:
    """The value at a place between two bounds."""
    if whole:
        return round(share)
    return low * (high / low) ** share if log else low + share * (high - low)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what BoTorch says of fits that did not converge."""
    with warnings.catch_warnings():
        for category in (BotorchWarning, NumericalWarning, RuntimeWarning):
            warnings.simplefilter("ignore", category)
        yield
