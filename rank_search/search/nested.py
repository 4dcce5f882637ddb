"""The search on nested scores, and the candidates that it gives to the main study to be fine-tuned.

It is an Optuna study beside the main one, in the same storage: NSGA-II on what truncations of the supernet score. A
nested score costs one evaluation and no training.
"""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from optuna.trial import TrialState

from rank_search.core import pareto
from rank_search.core.agreement import kendall_tau
from rank_search.core.errors import SearchStopped, TrainingFailed
from rank_search.core.rivals import CONFIRM
from rank_search.core.seeds import Stream, batch_seed, derive_seed
from rank_search.search.proposals.samplers import DistinctSampler, is_full, sampler_maker, suggest
from rank_search.search.rivals.truncations import spread, truncation_path
from rank_search.study.faults import patiently
from rank_search.study.optuna_compat import reopened, stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from optuna.trial import Trial

    from rank_search.config import StudyConfig
    from rank_search.core.ranks import RankMap
    from rank_search.core.space import Space
    from rank_search.study.nested_scores import NestedScores
    from rank_search.study.record import TrialRecord

T = TypeVar("T")

_FIRST = 8  # truncations of the supernet by the weight of its components, where the search starts
TRUSTED_FROM = 6  # fine-tuned candidates from which on their scores say whether nested ones mislead


class Scorer(Protocol):
    """Trains the supernet, and scores maps by truncating it."""

    def train(self, seed: int, data_seed: int, on_step: Callable[[int, int], None]) -> None:
        """Trains it, or goes on; does nothing where it is trained already."""

    def score(self, maps: Sequence[RankMap]) -> list[float]:
        """Scores of maps, side by side."""

    def energies(self) -> Mapping[str, Sequence[float]]:
        """Module → weight of each component."""


class StageProgress(Protocol):
    """Hears how the nested search goes."""

    def stage(self, what: str, done: int, total: int) -> None:
        """A part of something is done."""

    def waiting(self, why: str) -> None:
        """Nothing can be done for a while."""


@dataclass
class NestedSearch:
    """One driver at work on the nested scores of one study.

    Attributes:
        scores: what is known so far.
        scorer: trains and truncates the supernet.
        pack: how many maps are scored at once.
    """

    scores: NestedScores
    config: StudyConfig
    space: Space
    scorer: Scorer
    progress: StageProgress
    pack: int = 1

    def __post_init__(self) -> None:
        self._study = self.scores.optuna_study
        self._ranks_only = replace(self.space, joint={})

    def run(self) -> None:
        """Trains the supernet, then searches on its scores; goes on where an earlier run ended.

        Raises:
            SearchStopped: the supernet's loss is not finite.
        """
        seed = derive_seed(self.config.seed, Stream.SUPERNET)
        wanted = int(min(self.config.search.nested.evaluations, self._ranks_only.size))
        if self._patiently(lambda: self.scores.finished) >= wanted:
            return
        self._train(seed)
        self._study.sampler = DistinctSampler(sampler_maker("nsga2", self._ranks_only), seed, self._ranks_only)
        self._patiently(self._enqueue_first)  # a run may have ended between two of these
        while (done := self._patiently(lambda: self.scores.finished)) < wanted:
            self.progress.stage("nested scores", done, wanted)
            trials = self._patiently(partial(self._next, wanted - done))
            maps = [self.space.rank_map(trial.params) for trial in trials]
            with self._timed("scoring_seconds"):
                scores = self.scorer.score(maps)
            for trial, rank_map, score in zip(trials, maps, scores, strict=True):
                self._patiently(partial(self._record, trial, rank_map, score))

    def score_of(self, rank_map: RankMap) -> float | None:
        """A map's nested score, if it has one."""
        scores = {self.space.rank_map(proposal).key: score for proposal, score in self.scored()}
        return scores.get(rank_map.key)

    def scored(self) -> list[tuple[dict[str, float], float]]:
        """Every proposal that has a nested score, with that score."""
        return [(trial.params, trial.values[0]) for trial in self.scores.complete]

    def candidate(self, trials: Sequence[TrialRecord]) -> RankMap | None:
        """The map to fine-tune next; None where no map is left that has a nested score, or these mislead.

        Of the maps that no other untrained one dominates by nested scores, it is the one that adds most to the
        hypervolume of those that the study has.

        Args:
            trials: of the main study.
        """
        if self.misleads(trials):
            return None
        taken = {trial.candidate.rank_map.key for trial in trials if trial.in_space and trial.candidate}
        scored = [(self.space.rank_map(proposal), score) for proposal, score in self.scored()]
        parameters = [self.space.parameters(rank_map) for rank_map, _ in scored]
        points = pareto.minimised([score for _, score in scored], parameters)
        is_taken = np.array([rank_map.key in taken for rank_map, _ in scored])
        if is_taken.all():
            return None
        corner = np.array([points[:, 0].max() + 1e-9, self.space.reference_parameters])
        (left,) = np.nonzero(~is_taken)
        front = left[pareto.dominance_ranks(points[left]) == 0]
        volumes = [pareto.hypervolume(np.vstack([points[is_taken], points[i]]), corner) for i in front]
        chosen: int = front[int(np.argmax(volumes))]
        return scored[chosen][0]

    def misleads(self, trials: Sequence[TrialRecord]) -> bool:
        """Whether fine-tuned scores show that nested ones put maps in another order.

        Args:
            trials: of the main study.
        """
        trained = [trial for trial in trials if trial.in_space and trial.is_complete and _adapts(trial)]
        confirmed = sum(trial.attributes.kind == CONFIRM for trial in trained)
        pairs = [
            (trial.attributes.nested_score, trial.score)
            for trial in trained
            if trial.attributes.nested_score is not None and trial.score is not None
        ]
        return confirmed >= TRUSTED_FROM and not kendall_tau(pairs) >= self.config.search.nested.least_tau

    def _train(self, seed: int) -> None:
        on_step = partial(self.progress.stage, "supernet: step")
        with self._timed("training_seconds"):
            try:
                self.scorer.train(seed, batch_seed(self.config.seed), on_step)
            except TrainingFailed as error:
                raise SearchStopped(f"{error}; lower training.learning_rate or adapter.alpha") from None

    def _enqueue_first(self) -> None:
        """Where the search starts: the uniform maps, and truncations of the supernet by weight against cost."""
        if any(trial.state != TrialState.WAITING for trial in self._study.get_trials(deepcopy=False)):
            return
        uniform = [self.space.uniform(rank) for rank in self.space.ladder]
        path = truncation_path(self.scorer.energies(), self._ranks_only)
        for rank_map in uniform + spread(path, self.space, _FIRST):
            self._study.enqueue_trial(self._ranks_only.proposal(rank_map), skip_if_exists=True)

    def _next(self, most: int) -> list[Trial]:
        """Trials to score together: those that a dead driver left, then new ones until a pack is full."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        trials = [reopened(self._study, trial) for trial in running[: self.pack]]
        for trial in trials:
            suggest(trial, self._ranks_only)
        while len(trials) < most and not is_full(trials, self.pack):
            trials.append(self._study.ask())
            suggest(trials[-1], self._ranks_only)
        return trials

    def _record(self, trial: Trial, rank_map: RankMap, score: float) -> None:
        if stored(trial).state.is_finished():  # it was recorded, and this driver did not hear of it
            return
        if math.isfinite(score):
            self._study.tell(trial, [score, self.space.parameters(rank_map)])
        else:
            self._study.tell(trial, state=TrialState.FAIL)

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
            before = self._patiently(lambda: self.scores.seconds(attribute))
            self._patiently(lambda: self.scores.keep_seconds(attribute, before + seconds))


def _adapts(trial: TrialRecord) -> bool:
    return trial.candidate is not None and bool(trial.candidate.rank_map.adapted)
