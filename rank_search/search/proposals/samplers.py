"""Optuna's samplers over the whole space, reproducible over restarts, and never proposing a map twice."""

from __future__ import annotations

import random
from collections import deque
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

from optuna.distributions import FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from rank_search.core.seeds import Stream, derive_seed
from rank_search.study.optuna_compat import StudyView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, Trial

    from rank_search.core.space import Space
    from rank_search.search.proposals.encoder import Encoder

    Maker = Callable[[int, int | None], BaseSampler]  # from a seed and a budget of parameters

_DRAWS = 20  # before a repeated proposal is replaced by its nearest new neighbour
_POPULATION = 16


class GridSampler(BaseSampler):
    """Every map in turn, the ranks of the last dimension varying fastest.

    Neighbours are equal in their first layers, so that a pack of them shares what lies before its first adapter.
    Optuna's own samplers of grids propose in random order.
    """

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing: the space is given with each call."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The first map that no trial has; the last one where all are there.

        Raises:
            ValueError: a dimension is no grid.
        """
        rungs = []
        for name, distribution in search_space.items():
            if not isinstance(distribution, IntDistribution):
                raise ValueError(f"{name!r} is searched on a range, of which there is no grid")
            rungs.append(range(distribution.low, distribution.high + 1))
        seen = proposals(other for other in study.get_trials(deepcopy=False) if other.number != trial.number)
        proposal: dict[str, float] = {}
        for indices in product(*rungs):
            proposal = dict(zip(search_space, indices, strict=True))
            if frozenset(proposal.items()) not in seen:
                return proposal
        return proposal

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Never asked for: a map is proposed whole."""
        raise NotImplementedError


SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(multivariate=True, seed=seed),
    "gp": lambda seed: GPSampler(seed=seed),
    "nsga2": lambda seed: NSGAIISampler(population_size=_POPULATION, seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    "grid": lambda _seed: GridSampler(),
}


def sampler_maker(
    kind: str,
    space: Space,
    energies: Callable[[], Mapping[str, Sequence[float]] | None] = lambda: None,
) -> Maker:
    """What makes a sampler of a kind.

    Args:
        kind: ``nehvi``, or a key of `SAMPLERS`.
        space: what is searched.
        energies: module → weight of each component, which ``nehvi`` starts from as soon as they are known; None
            before that.
    """
    if kind != "nehvi":
        return lambda seed, _budget: SAMPLERS[kind](seed)

    @cache
    def encoder(*, knows_energies: bool) -> Encoder:
        from rank_search.search.proposals.encoder import Encoder

        return Encoder(space, energies() if knows_energies else None)

    def cost_aware(seed: int, budget: int | None) -> BaseSampler:
        from rank_search.search.proposals.cost_aware import CostAwareSampler  # BoTorch, which only proposals wait for

        return CostAwareSampler(seed, encoder(knows_energies=energies() is not None), budget)

    return cost_aware


def distributions(space: Space) -> dict[str, IntDistribution | FloatDistribution]:
    """Each rank dimension as an integer index into the ladder, so that samplers see the order of ranks.

    Joint settings follow, as real numbers, or as 0 and 1 where they are a switch.
    """
    found: dict[str, IntDistribution | FloatDistribution] = {
        name: IntDistribution(0, len(space.ladder) - 1) for name in space.dimensions
    }
    for name, setting in space.joint.items():
        if setting.switch:
            found[name] = IntDistribution(0, 1)
        else:
            found[name] = FloatDistribution(setting.low, setting.high, log=setting.log)
    return found


def suggest(trial: Trial, space: Space) -> None:
    """Draws a trial's whole proposal, so that those drawn after it know of it."""
    for name, distribution in distributions(space).items():
        if isinstance(distribution, FloatDistribution):
            trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
        else:
            trial.suggest_int(name, 0, distribution.high)


def is_full(trials: Sequence[Trial], pack: int) -> bool:
    """Whether trials that were started together are a whole pack.

    A pack ends at a multiple of its size, counted over the whole study. So it ends at the same trial whatever
    killed a run between two of its trials, and its proposals see the same scores.
    """
    return bool(trials) and (trials[-1].number + 1) % pack == 0


class DistinctSampler(BaseSampler):
    """Proposes maps by one of Optuna's samplers, none of them twice.

    A fresh inner sampler is seeded for each trial from (study seed, trial number), since Optuna does not
    store a sampler's state: a study in one sitting and a study in two propose the same maps.

    Args:
        make: what makes the inner sampler, such as a `sampler_maker`.
        seed: the study's seed.
        space: what is searched.
        budget: trainable parameters that a proposal may have at most, as of now; None for no bound.
    """

    def __init__(self, make: Maker, seed: int, space: Space, budget: Callable[[], int | None] = lambda: None) -> None:
        self._make = make
        self._seed = seed
        self._searched = space
        self._space = distributions(space)
        self._budget = budget

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space, from the first trial on."""
        return dict(self._space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A proposal that no trial of the study has, within the budget; any proposal once there is none left.

        Nothing for a trial that was enqueued, whose proposal is given, or that is outside the space.
        """
        if "fixed_params" in trial.system_attrs:
            return {}
        seed = derive_seed(self._seed, Stream.SAMPLER, trial.number)
        budget = self._budget()
        inner = self._make(seed, budget)
        draw = random.Random(seed)

        def is_in_space(other: FrozenTrial) -> bool:
            return not other.state.is_finished() or search_space.keys() <= other.params.keys()

        # Not all of Optuna's samplers can stand trials without parameters, as rivals outside the space are.
        view: Any = StudyView(study, is_in_space)
        seen = proposals(other for other in view.get_trials(deepcopy=False) if other.number != trial.number)
        proposal: dict[str, float] = {}
        for _ in range(_DRAWS):
            before = proposal
            proposal = inner.sample_relative(view, trial, search_space)
            for name, distribution in search_space.items():
                if name not in proposal:
                    proposal[name] = inner.sample_independent(view, trial, name, distribution)
            proposal = self._lowered(proposal, budget, draw)
            if frozenset(proposal.items()) not in seen:
                return proposal
            if proposal == before:  # a model of the scores, which would say the same again, a second later
                break
        found = _nearest_new(proposal, seen, search_space, draw, lambda other: self._fits(other, budget))
        if budget is not None and frozenset(found.items()) in seen:  # all of them are trained
            return _nearest_new(proposal, seen, search_space, draw)
        return found

    def _fits(self, proposal: Mapping[str, float], budget: int | None) -> bool:
        """Whether a proposal is within a budget."""
        return budget is None or self._searched.parameters(self._searched.rank_map(proposal)) <= budget

    def _lowered(self, proposal: dict[str, Any], budget: int | None, draw: random.Random) -> dict[str, Any]:
        """A proposal, lowered rung by rung in dimensions drawn by chance until it is within a budget, or is zero."""
        lowered = dict(proposal)
        while not self._fits(lowered, budget):
            raised = [name for name in self._searched.dimensions if lowered[name] > 0]
            if not raised:
                return lowered
            lowered[draw.choice(raised)] -= 1
        return lowered

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Only asked for a dimension outside the space, of which there is none."""
        raise NotImplementedError(f"{param_name!r} is not a dimension of this study")


def proposals(trials: Iterable[FrozenTrial]) -> set[frozenset[tuple[str, float]]]:
    """The distinct proposals among trials in any state."""
    return {frozenset(trial.params.items()) for trial in trials}


def _nearest_new(
    start: Mapping[str, float],
    seen: set[frozenset[tuple[str, float]]],
    space: Mapping[str, BaseDistribution],
    draw: random.Random,
    is_allowed: Callable[[Mapping[str, float]], bool] = lambda _: True,
) -> dict[str, float]:
    """A nearest allowed proposal that was not seen, by steps of one rung in one dimension (breadth first)."""
    ranges = {name: range_ for name, range_ in space.items() if isinstance(range_, IntDistribution)}
    names = list(ranges)
    draw.shuffle(names)
    queue = deque([dict(start)])
    reached = {frozenset(start.items())}
    while queue:
        current = queue.popleft()
        if frozenset(current.items()) not in seen:
            return current
        for name in names:
            for step in (-1, 1):
                neighbour = {**current, name: current[name] + step}
                key = frozenset(neighbour.items())
                if key in reached or not ranges[name].low <= neighbour[name] <= ranges[name].high:
                    continue
                reached.add(key)
                if is_allowed(neighbour):
                    queue.append(neighbour)
    return dict(start)
