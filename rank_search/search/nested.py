"""The search on nested scores, and the candidates that it hands to the study for a fine-tune of their own.

It is an Optuna study beside the main one, in the same storage: NSGA-II on what truncations of the super-adapter
score. A nested score costs one evaluation and no training.
"""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from optuna.trial import Trial, TrialState
from scipy.stats import kendalltau

from rank_search.core import pareto
from rank_search.core.errors import SearchStopped, TrainingFailed
from rank_search.search.proposals.samplers import SAMPLERS, DistinctSampler, derive_seed, is_full, suggest
from rank_search.search.rivals.rivals import NAME
from rank_search.search.rivals.truncations import cut_path, spread
from rank_search.study.faults import patiently

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from rank_search.config import StudyConfig
    from rank_search.core.ranks import RankMap
    from rank_search.core.space import Space

T = TypeVar("T")

CONFIRM = "confirm"
NESTED = "nested"  # attribute of the main study: what nested scores have cost
SCORE = "nested_score"  # attribute of a trial of the main study
_STREAM = 3  # of seeds; others are in rank_search.search.loop
_FIRST = 8  # maps that cut the super-adapter by the weight of its components, where the search begins
TELLING = 6  # fine-tuned candidates from which on their scores say whether nested ones mislead


class Scorer(Protocol):
    """Trains the super-adapter, and scores maps by truncating it."""

    def train(self, seed: int, data_seed: int, on_step: Callable[[int, int], None]) -> None:
        """Trains it, or goes on; nothing where it is trained already."""

    def score(self, maps: Sequence[RankMap]) -> list[float]:
        """Scores of maps, side by side."""

    def energies(self) -> Mapping[str, Sequence[float]]:
        """Module → weight of each component."""


class Stages(Protocol):
    """Is told how the nested search goes."""

    def stage(self, what: str, done: int, of: int) -> None:
        """So much of something is done."""

    def waiting(self, why: str) -> None:
        """Nothing can be done for a while."""


@dataclass
class NestedSearch:
    """One driver at work on the nested scores of one study.

    Attributes:
        study: the Optuna study of nested scores.
        pack: how many maps are scored at once.
    """

    study: Study
    config: StudyConfig
    space: Space
    scorer: Scorer
    progress: Stages
    data_seed: int
    pack: int = 1

    def __post_init__(self) -> None:
        self._ranks_only = replace(self.space, joint={})

    def run(self) -> None:
        """Trains the super-adapter, then searches on its scores; goes on where an earlier run ended.

        Raises:
            SearchStopped: the super-adapter's loss is not finite.
        """
        seed = derive_seed(self.config.seed, _STREAM)
        wanted = int(min(self.config.search.nested.evaluations, self._ranks_only.size))
        if self._patiently(self._looked_at) >= wanted:
            return
        with self._timed("training_seconds"):
            told = partial(self.progress.stage, "super-adapter: step")
            try:
                self.scorer.train(seed, self.data_seed, told)
            except TrainingFailed as error:
                raise SearchStopped(f"{error}; lower training.learning_rate or adapter.alpha") from None
        self.study.sampler = DistinctSampler(SAMPLERS["nsga2"], seed, self._ranks_only)
        # A run may have ended between two of these.
        self._patiently(self._enqueue_first)
        while (done := self._patiently(self._looked_at)) < wanted:
            self.progress.stage("nested scores", done, wanted)
            trials = self._patiently(partial(self._next, wanted - done))
            maps = [self._map(trial.params) for trial in trials]
            with self._timed("scoring_seconds"):
                scores = self.scorer.score(maps)
            for trial, ranks, score in zip(trials, maps, scores, strict=True):
                self._patiently(partial(self._tell, trial, ranks, score))

    def _enqueue_first(self) -> None:
        if all(trial.state == TrialState.WAITING for trial in self.study.get_trials(deepcopy=False)):
            for ranks in self._first_maps():
                self.study.enqueue_trial(self._ranks_only.proposal(ranks), skip_if_exists=True)

    def _tell(self, trial: Trial, ranks: RankMap, score: float) -> None:
        if trial.storage.get_trial(trial._trial_id).state.is_finished():  # it was told, and we did not hear of it
            return
        if math.isfinite(score):
            self.study.tell(trial, [score, self.space.parameters(ranks)])
        else:
            self.study.tell(trial, state=TrialState.FAIL)

    def _patiently(self, unit: Callable[[], T]) -> T:
        return patiently(unit, self.progress.waiting)

    @contextmanager
    def _timed(self, attribute: str) -> Iterator[None]:
        """Adds up seconds over all runs of the study, but for what a kill cuts off."""
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            before = self._patiently(lambda: self.study.user_attrs.get(attribute, 0.0))
            self._patiently(lambda: self.study.set_user_attr(attribute, before + seconds))

    @property
    def cost(self) -> dict[str, float]:
        """What the nested scores have cost: ``evaluations``, ``training_seconds``, ``scoring_seconds``."""
        return {"evaluations": self._looked_at(), **self.study.user_attrs}

    def score_of(self, ranks: RankMap) -> float | None:
        """A map's nested score, if it was looked at."""
        return self._scores().get(ranks.key)

    def scored(self) -> list[tuple[dict[str, float], float]]:
        """Every proposal that was looked at, with its nested score."""
        return [(trial.params, trial.values[0]) for trial in self._complete()]

    def candidate(self, known: Sequence[FrozenTrial]) -> RankMap | None:
        """The map to fine-tune next; None where no map is left that has a nested score, or these mislead.

        Of the maps that no other untrained one dominates by nested scores, it is the one that adds most to the
        hypervolume of those that the study has.
        """
        if self.misleads(known):
            return None
        # A trial that another driver has just begun may have no proposal yet.
        taken = {self.space.rank_map(of.params).key for of in known if self.space.dimensions.keys() <= of.params.keys()}
        looked_at = [(self._map(proposal), score) for proposal, score in self.scored()]
        points = np.array([[-score, self.space.parameters(ranks)] for ranks, score in looked_at])
        is_taken = np.array([ranks.key in taken for ranks, _ in looked_at])
        if is_taken.all():
            return None
        corner = np.array([points[:, 0].max() + 1e-9, self.space.reference_parameters])
        (left,) = np.nonzero(~is_taken)
        front = left[pareto.dominance_ranks(points[left]) == 0]
        volumes = [pareto.hypervolume(np.vstack([points[is_taken], points[i]]), corner) for i in front]
        chosen: int = front[int(np.argmax(volumes))]
        return looked_at[chosen][0]

    def misleads(self, known: Sequence[FrozenTrial]) -> bool:
        """Whether fine-tuned scores show that nested ones put maps in another order."""
        in_space = [trial for trial in known if NAME not in trial.user_attrs]
        complete = [trial for trial in in_space if trial.state == TrialState.COMPLETE and trial.values[1] > 0]
        confirmed = sum(trial.user_attrs.get("kind") == CONFIRM for trial in complete)
        pairs = [(trial.user_attrs[SCORE], trial.values[0]) for trial in complete if SCORE in trial.user_attrs]
        return confirmed >= TELLING and not agreement(pairs) >= self.config.search.nested.least_tau

    def _next(self, most: int) -> list[Trial]:
        """Trials to score together: those that a dead driver left, then new ones until a pack is full."""
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        trials = [Trial(self.study, trial._trial_id) for trial in running[: self.pack]]
        for trial in trials:
            suggest(trial, self._ranks_only)
        while len(trials) < most and not is_full(trials, self.pack):
            trials.append(self.study.ask())
            suggest(trials[-1], self._ranks_only)
        return trials

    def _first_maps(self) -> list[RankMap]:
        """Where the search begins: the uniform maps, and cuts of the super-adapter by weight against price."""
        uniform = [self.space.uniform(rank) for rank in self.space.ladder]
        return uniform + spread(cut_path(self.scorer.energies(), self._ranks_only), self.space, _FIRST)

    def _complete(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))

    def _looked_at(self) -> int:
        return sum(trial.state.is_finished() for trial in self.study.get_trials(deepcopy=False))

    def _scores(self) -> dict[str, float]:
        return {self._map(proposal).key: score for proposal, score in self.scored()}

    def _map(self, ranks: Mapping[str, float]) -> RankMap:
        return self.space.rank_map(ranks)


def agreement(pairs: Sequence[tuple[float, float]]) -> float:
    """Kendall's τ-b of (nested, fine-tuned) scores; NaN where there are too few, or all are the same."""
    if len(pairs) < 2:
        return math.nan
    return float(kendalltau(*zip(*pairs, strict=True)).statistic)
