"""The search itself: ask for a map, train it, tell what it scored; over and over, losing nothing.

A trial is told to the study only after everything that belongs to it is on disk. If the process dies
before that, the trial is still RUNNING in the study; the next start takes it over under its own number
and seed, so the study comes out as if nothing had happened.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from optuna.distributions import FloatDistribution
from optuna.trial import Trial, TrialState

from rank_search.errors import SearchStopped
from rank_search.search import leases
from rank_search.search.samplers import DistinctSampler, derive_seed, distributions, proposals
from rank_search.search.table import UNIFORM
from rank_search.training.result import FineTuned, Job, TrainingFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna import Study
    from optuna.trial import FrozenTrial

    from rank_search.config import StudyConfig
    from rank_search.search.storage import StudyFolder
    from rank_search.space import Space

MAX_ATTEMPTS = 10  # starts of one trial; a trial that kills its process must not do so for ever
_MAP_STREAM, _DATA_STREAM = 1, 2  # seed streams; the sampler's is 0


class Executor(Protocol):
    """Trains jobs. It knows nothing of the study, and may raise anything: that fails the one trial."""

    def train(self, job: Job, on_step: Callable[[int], None]) -> FineTuned:
        """Fine-tunes and scores one rank map, calling ``on_step`` with the number of steps done."""


class Progress(Protocol):
    """Is told how the search goes."""

    def trial_started(self, trial: Trial, parameters: int) -> None:
        """A trial begins to train this many parameters."""

    def step(self, steps: int) -> None:
        """The running trial has done so many steps."""

    def trial_finished(self, study: Study, number: int) -> None:
        """The trial of this number was told to the study."""


def wants_more(trials: list[FrozenTrial], budget: int, space_size: float) -> bool:
    """Whether a study is to begin another trial: within its budget, and with a map left to try."""
    begun = [trial for trial in trials if trial.state != TrialState.WAITING]
    return len(begun) < budget and len(proposals(begun)) < space_size


@dataclass
class Search:
    """One driver at work on one study.

    Attributes:
        sole_driver: no other driver can be at work on this study, since this one holds its lock.
        busy: seconds that the executor has been at work.
    """

    study: Study
    folder: StudyFolder
    config: StudyConfig
    space: Space
    executor: Executor
    progress: Progress
    sole_driver: bool = False
    busy: float = 0.0

    def __post_init__(self) -> None:
        self.study.sampler = DistinctSampler(self.config.search.sampler, self.config.seed, self.space)

    def run(self) -> None:
        """Trains until the study has ``search.trials`` finished trials, or the space is exhausted.

        Raises:
            SearchStopped: more than ``search.max_failures`` trials failed in a row.
        """
        failures = 0
        while (trial := self._next_trial()) is not None:
            reason = self._run_trial(trial)
            self.progress.trial_finished(self.study, trial.number)
            failures = failures + 1 if reason else 0
            if failures > self.config.search.max_failures:
                raise SearchStopped(
                    f"{failures} trials failed in a row, the last one (trial {trial.number}) because: {reason}; "
                    "mend that and run the same command to go on; if it takes another setting, name another study"
                )

    def _next_trial(self) -> Trial | None:
        """A trial to train: one that a dead driver left, or a new one; None when the study is done."""
        trials = self.study.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state == TrialState.RUNNING and self._is_orphan(trial):
                return Trial(self.study, trial._trial_id)
        if not wants_more(trials, self.config.search.trials, self.space.size):
            return None
        if not any(trial.state == TrialState.WAITING for trial in trials):
            self._enqueue_baseline(trials)
        return self.study.ask()

    def _is_orphan(self, running: FrozenTrial) -> bool:
        """Whether the driver of a running trial is dead; a sole driver runs no trial but the one it is at."""
        return self.sole_driver or not leases.is_live(running.user_attrs.get(leases.LEASE))

    def _enqueue_baseline(self, trials: list[FrozenTrial]) -> None:
        """Enqueues the uniform map whose turn it is: baselines come first, in order of their rank."""
        if len(trials) < len(self.space.ladder):
            uniform = self.space.uniform(self.space.ladder[len(trials)])
            self.study.enqueue_trial(self.space.proposal(uniform), user_attrs={"kind": UNIFORM}, skip_if_exists=True)

    def _run_trial(self, trial: Trial) -> str | None:
        """Trains one trial and tells the study; returns the reason if it failed."""
        attempts = trial.user_attrs.get("attempts", 0) + 1
        trial.set_user_attr("attempts", attempts)
        with leases.held(trial):
            try:
                if attempts > MAX_ATTEMPTS:
                    raise TrainingFailed(f"its process died {MAX_ATTEMPTS} times")
                self._complete(trial)
            except KeyboardInterrupt:  # somebody's wish, and no sign of a deadly trial
                trial.set_user_attr("attempts", attempts - 1)
                raise
            except Exception as error:  # whatever went wrong is this trial's, and the study goes on
                reason = str(error) if isinstance(error, TrainingFailed) else f"{type(error).__name__}: {error}"
                trial.set_user_attr("reason", reason)
                self.study.tell(trial, state=TrialState.FAIL)
                return reason
        self.folder.keep_adapters(self._worth_keeping())
        return None

    def _complete(self, trial: Trial) -> None:
        """Trains, writes down, tells: in this order."""
        for name, distribution in distributions(self.space).items():
            if isinstance(distribution, FloatDistribution):
                trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
            else:
                trial.suggest_int(name, 0, distribution.high)
        rank_map = self.space.rank_map(trial.params)
        parameters = self.space.parameters(rank_map)
        job = Job(
            rank_map,
            seed=derive_seed(self.config.seed, _MAP_STREAM, trial.number),
            data_seed=derive_seed(self.config.seed, _DATA_STREAM),
            settings=self.space.settings(trial.params),
        )
        self.progress.trial_started(trial, parameters)
        started = time.perf_counter()
        result = self.executor.train(job, self.progress.step)
        self.busy += time.perf_counter() - started
        evaluation = result.evaluation
        if not math.isfinite(evaluation.score):  # Optuna would fail a NaN, but take an infinity
            raise TrainingFailed(f"the score is {evaluation.score} after training; lower the learning rate")
        self.folder.write_result(trial.number, {"values": evaluation.values, "losses": result.losses})
        if result.save_adapter is not None:
            result.save_adapter(self.folder.adapter(trial.number))
        trial.set_user_attr("seed", job.seed)
        trial.set_user_attr("score_se", evaluation.standard_error)
        trial.set_user_attr("metrics", evaluation.means)
        trial.set_user_attr("seconds", result.seconds)
        self.study.tell(trial, [evaluation.score, parameters])

    def _worth_keeping(self) -> set[int]:
        """Trials whose adapter is kept: the front, and the uniform maps that it is measured against."""
        front = {trial.number for trial in self.study.best_trials}
        uniform = {
            trial.number
            for trial in self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if trial.user_attrs.get("kind") == UNIFORM
        }
        return front | uniform
