"""The search itself: ask for a map, train it, tell what it scored; over and over, losing nothing.

A trial is told to the study only after everything that belongs to it is on disk. If the process dies
before that, the trial is still RUNNING in the study; the next start takes it over under its own number
and seed, so the study comes out as if nothing had happened.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from optuna.trial import Trial, TrialState

from rank_search.errors import SearchStopped, TrainingFailed
from rank_search.search import leases, rungs
from rank_search.search.nested import CONFIRM, SCORE
from rank_search.search.samplers import DistinctSampler, derive_seed, is_full, proposals, suggest
from rank_search.search.table import UNIFORM
from rank_search.training.result import Job, Rungs, Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from rank_search.config import StudyConfig
    from rank_search.search.nested import NestedSearch
    from rank_search.search.storage import StudyFolder
    from rank_search.space import Space
    from rank_search.training.result import Outcome

_PATIENCE = 2  # starts of a pack, after which its trials are tried again in smaller ones
MAX_ATTEMPTS = 10  # starts of one trial; a trial that kills its process must not do so for ever
_MAP_STREAM, _DATA_STREAM = 1, 2  # seed streams; the sampler's is 0


class Executor(Protocol):
    """Trains jobs. It knows nothing of the study, and may raise anything: that fails the trials it was given."""

    def train(self, jobs: Sequence[Job], on_step: Callable[[int], None], rungs: Rungs) -> Sequence[Outcome]:
        """Fine-tunes and scores a pack of rank maps, calling ``on_step`` with the number of steps done."""


class Progress(Protocol):
    """Is told how the search goes."""

    def pack_started(self, numbers: Sequence[int], parameters: int) -> None:
        """Trials begin to train this many parameters together."""

    def step(self, steps: int) -> None:
        """The running trials have done so many steps."""

    def trial_finished(self, study: Study, number: int) -> None:
        """The trial of this number was told to the study."""


def data_seed(study_seed: int) -> int:
    """Draws the order of the batches, which all trials of a study share."""
    return derive_seed(study_seed, _DATA_STREAM)


def wants_more(trials: list[FrozenTrial], budget: int, space_size: float) -> bool:
    """Whether a study is to begin another trial: within its budget, and with a map left to try."""
    begun = [trial for trial in trials if trial.state != TrialState.WAITING]
    return len(begun) < budget and len(proposals(begun)) < space_size


@dataclass
class Search:
    """One driver at work on one study.

    Attributes:
        nested: whose candidates are fine-tuned, if there is one.
        pack: how many maps are trained at once.
        sole_driver: no other driver can be at work on this study, since this one holds its lock.
        busy: seconds that the executor has been at work.
    """

    study: Study
    folder: StudyFolder
    config: StudyConfig
    space: Space
    executor: Executor
    progress: Progress
    nested: NestedSearch | None = None
    pack: int = 1
    sole_driver: bool = False
    busy: float = 0.0

    def __post_init__(self) -> None:
        self.study.sampler = DistinctSampler(self.config.search.sampler, self.config.seed, self.space)
        self._failures: list[tuple[int, str]] = []  # trials that failed in a row, and why

    def run(self) -> None:
        """Trains until the study has ``search.trials`` finished trials, or the space is exhausted.

        Raises:
            SearchStopped: more than ``search.max_failures`` trials failed in a row.
        """
        while trials := self._next_pack():
            self._run_pack(trials)

    def _next_pack(self) -> list[Trial]:
        """Trials to train together: those that a dead driver left, or new ones; none when the study is done.

        A proposal sees the scores of all that was planned before it, so planned maps and proposals are
        not mixed.
        """
        known = self.study.get_trials(deepcopy=False)
        orphans = [trial for trial in known if trial.state == TrialState.RUNNING and self._is_orphan(trial)]
        attempts = max((trial.user_attrs.get("attempts", 0) for trial in orphans), default=0)
        pack = [Trial(self.study, trial._trial_id) for trial in orphans[: self._size_after(attempts)]]
        if attempts > _PATIENCE:
            return pack
        for trial in pack:
            suggest(trial, self.space)
        while not is_full(pack, self.pack):
            known = self.study.get_trials(deepcopy=False)
            if not wants_more(known, self.config.search.trials, self.space.size):
                break
            planned = self._plan(known)
            if pack and planned != self._is_planned(pack[0]):
                break
            trial = self.study.ask()
            suggest(trial, self.space)
            pack.append(trial)
        return pack

    def _size_after(self, attempts: int) -> int:
        """How many trials to try again at once: ever fewer, so that a deadly one is found and spares the others."""
        return max(1, self.pack >> max(0, attempts - _PATIENCE))

    def _is_orphan(self, running: FrozenTrial) -> bool:
        """Whether the driver of a running trial is dead; a sole driver runs no trial but those it is at."""
        return self.sole_driver or not leases.is_live(running.user_attrs.get(leases.LEASE))

    @staticmethod
    def _is_planned(trial: Trial) -> bool:
        return "kind" in trial.user_attrs

    def _plan(self, known: list[FrozenTrial]) -> bool:
        """Enqueues what is next of the plan, if anything is; returns whether the next trial is a planned one.

        The baselines, which are the uniform maps in order of their rank, come first; where there is a nested
        search, as many of its candidates go before them, and all others follow.
        """
        if any(trial.state == TrialState.WAITING for trial in known):
            return True
        # What another driver has just begun may be drawn in a moment; Optuna keeps there what was enqueued.
        drawn = [trial.system_attrs.get("fixed_params", trial.params) for trial in known]
        begun = {self.space.rank_map(of).key for of in drawn if self.space.dimensions.keys() <= of.keys()}
        uniform = [self.space.uniform(rank) for rank in self.space.ladder]
        baselines = [planned for planned in uniform if planned.key not in begun]
        planned = baselines[0] if baselines else None
        if self.nested is not None and (planned is None or len(known) < len(self.space.ladder)):
            planned = self.nested.candidate(known) or planned
        if planned is None:
            return False
        attributes: dict[str, Any] = {"kind": UNIFORM if planned in uniform else CONFIRM}
        if self.nested is not None and (score := self.nested.score_of(planned)) is not None:
            attributes[SCORE] = score
        self.study.enqueue_trial(self.space.proposal(planned), user_attrs=attributes, skip_if_exists=True)
        return True

    def _run_pack(self, trials: Sequence[Trial]) -> None:
        """Trains some trials together, and tells the study what became of each.

        Raises:
            SearchStopped: too many trials failed in a row.
        """
        attempts = {trial.number: trial.user_attrs.get("attempts", 0) + 1 for trial in trials}
        for trial in trials:
            trial.set_user_attr("attempts", attempts[trial.number])
        untold = list(trials)
        with leases.held(untold):
            try:
                for trial, outcome in zip(trials, self._outcomes(trials, attempts), strict=True):
                    untold.remove(trial)
                    self._tell(trial, outcome)
            except KeyboardInterrupt:  # somebody's wish, and no sign of a deadly trial
                for trial in untold:
                    trial.set_user_attr("attempts", attempts[trial.number] - 1)
                raise
        self.folder.keep_adapters(self._worth_keeping())
        if len(self._failures) > self.config.search.max_failures:
            number, reason = self._failures[-1]
            raise SearchStopped(
                f"{len(self._failures)} trials failed in a row, the last one (trial {number}) because: {reason}; "
                "mend that and run the same command to go on; if it takes another setting, name another study"
            )

    def _outcomes(self, trials: Sequence[Trial], attempts: Mapping[int, int]) -> list[Outcome]:
        """What became of each trial; one that has killed its process too often is not tried again."""
        sound = [trial for trial in trials if attempts[trial.number] <= MAX_ATTEMPTS]
        trained = dict(zip([trial.number for trial in sound], self._train(sound), strict=True))
        deadly = TrainingFailed(f"its process died {MAX_ATTEMPTS} times")
        return [trained.get(trial.number, deadly) for trial in trials]

    def _train(self, trials: Sequence[Trial]) -> Sequence[Outcome]:
        """What became of each trial."""
        if not trials:
            return []
        jobs = [self._job(trial) for trial in trials]
        parameters = sum(self.space.parameters(job.rank_map) for job in jobs)
        self.progress.pack_started([job.number for job in jobs], parameters)
        started = time.perf_counter()
        try:
            return self.executor.train(jobs, self.progress.step, self._rungs(trials))
        except Exception as error:  # whatever went wrong is these trials', and the study goes on
            return [TrainingFailed(_reason(error))] * len(jobs)
        finally:
            self.busy += time.perf_counter() - started

    def _job(self, trial: Trial) -> Job:
        suggest(trial, self.space)
        return Job(
            self.space.rank_map(trial.params),
            seed=self._seed(trial),
            data_seed=data_seed(self.config.seed),
            settings=self.space.settings(trial.params),
            number=trial.number,
            warm=self.config.search.nested.confirm == "warm" and trial.user_attrs.get("kind") == CONFIRM,
        )

    def _rungs(self, trials: Sequence[Trial]) -> Rungs:
        """Where these trials are looked at, and who goes on: all baselines, and the best of the others."""
        if not self.config.search.early_stopping:
            return Rungs()
        baselines = {trial.number for trial in trials if trial.user_attrs.get("kind") == UNIFORM}

        def keep(steps: int, scores: Mapping[int, float]) -> set[int]:
            known = {trial.number: trial for trial in self.study.get_trials(deepcopy=False)}
            at_rung = rungs.earlier_at(steps, known.values()) | dict(scores)
            seen = {
                number: rungs.Seen(score, self._parameters(known[number].params)) for number, score in at_rung.items()
            }
            return (rungs.going_on(seen) & scores.keys()) | (baselines & scores.keys())

        return Rungs(rungs.rung_steps(self.config.training.steps), keep)

    def _tell(self, trial: Trial, outcome: Outcome) -> None:
        """Tells the study of a trial, once all that belongs to it is written down."""
        try:
            values = self._write_down(trial, outcome)
            reason = None
        except Exception as error:  # such as a full disk
            reason = _reason(error)
        if reason is not None:
            self._failures.append((trial.number, reason))
            trial.set_user_attr("reason", reason)
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self._failures.clear()
            self.study.tell(trial, values, state=TrialState.PRUNED if values is None else TrialState.COMPLETE)
        self.progress.trial_finished(self.study, trial.number)

    def _write_down(self, trial: Trial, outcome: Outcome) -> tuple[float, int] | None:
        """Keeps what is known of a trial; returns its two objectives, or None where it was stopped.

        Raises:
            TrainingFailed: it has no finite score.
        """
        if isinstance(outcome, TrainingFailed):
            raise outcome
        trial.set_user_attr("seed", self._seed(trial))
        trial.set_user_attr("seconds", outcome.seconds)
        if outcome.rungs:
            trial.set_user_attr(rungs.ATTRIBUTE, outcome.rungs)
        if isinstance(outcome, Stopped):
            self.folder.write_result(trial.number, {"losses": outcome.losses})
            return None
        evaluation = outcome.evaluation
        if not math.isfinite(evaluation.score):  # Optuna would fail a NaN, but take an infinity
            raise TrainingFailed(f"the score is {evaluation.score} after training; lower the learning rate")
        self.folder.write_result(trial.number, {"values": evaluation.values, "losses": outcome.losses})
        if outcome.save_adapter is not None:
            outcome.save_adapter(self.folder.adapter(trial.number))
        trial.set_user_attr("score_se", evaluation.standard_error)
        trial.set_user_attr("metrics", evaluation.means)
        return evaluation.score, self._parameters(trial.params)

    def _seed(self, trial: Trial) -> int:
        """Draws the trial's fresh adapter."""
        return derive_seed(self.config.seed, _MAP_STREAM, trial.number)

    def _parameters(self, proposal: Mapping[str, float]) -> int:
        return self.space.parameters(self.space.rank_map(proposal))

    def _worth_keeping(self) -> set[int]:
        """Trials whose adapter is kept: the front, and the uniform maps that it is measured against."""
        front = {trial.number for trial in self.study.best_trials}
        uniform = {
            trial.number
            for trial in self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if trial.user_attrs.get("kind") == UNIFORM
        }
        return front | uniform


def _reason(error: Exception) -> str:
    reason = str(error) if isinstance(error, TrainingFailed) else f"{type(error).__name__}: {error}"
    return " ".join(reason.split())
