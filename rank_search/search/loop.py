"""The search itself: ask for a map, train it, record its score; over and over, losing nothing.

A trial's end is recorded in the study only after everything that belongs to it is on disk. If the process dies before
that, the trial is still RUNNING in the study; the next start takes it over under its own number and seed, so the study
comes out as if nothing had happened.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from optuna.trial import TrialState

from rank_search.core.errors import SearchStopped, TrainingFailed
from rank_search.core.job import Died
from rank_search.executors.protocol import Pack
from rank_search.search.jobs import job_of
from rank_search.search.kept_adapters import KeptAdapters
from rank_search.search.proposals.samplers import DistinctSampler, sampler_maker
from rank_search.search.queue import MAX_ATTEMPTS, TrialQueue
from rank_search.search.recorder import TrialRecorder
from rank_search.study.faults import patiently
from rank_search.study.leases import Leases
from rank_search.study.record import TrialAttributes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from optuna.trial import Trial

    from rank_search.config import StudyConfig
    from rank_search.core.job import Job, Outcome
    from rank_search.executors.protocol import Executor
    from rank_search.search.schedule import Schedule
    from rank_search.study.handle import Study
    from rank_search.study.record import TrialRecord

T = TypeVar("T")

_POLL = 2.0  # seconds between two looks at the trials of other drivers


class Progress(Protocol):
    """Hears how the search goes."""

    def pack_started(self, numbers: Sequence[int], parameters: int) -> None:
        """Trials start to train this many parameters together."""

    def step(self, numbers: Sequence[int], steps: int, loss: float) -> None:
        """These trials, which train together, have done so many steps, with this mean loss at the last one."""

    def trial_finished(self, study: Study, number: int) -> None:
        """The end of the trial of this number was recorded."""

    def waiting(self, why: str) -> None:
        """Nothing can be done for a while."""


@dataclass
class Search:
    """One driver at work on one study.

    Attributes:
        study: what it works on.
        config: the study file, as this run reads it: the number of trials may be larger than in an earlier run.
        executor: trains.
        schedule: what is trained beside the sampler's proposals.
        progress: hears how it goes.
        pack: how many maps are trained at once.
        sole_driver: no other driver can be at work on this study, since this one holds its folder's lock.
        after_pack: is called when a pack's outcomes are recorded, while other drivers need not wait.
    """

    study: Study
    config: StudyConfig
    executor: Executor
    schedule: Schedule
    progress: Progress
    pack: int = 1
    sole_driver: bool = False
    after_pack: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        maker = sampler_maker(self.config.search.sampler, self.study.space, self._energies)
        self.study.optuna_study.sampler = DistinctSampler(
            maker, self.config.seed, self.study.space, self.schedule.findings.budget
        )
        self._lock = self.study.lock
        self._leases = Leases(self._lock)
        in_process = self.executor.in_process
        self._queue = TrialQueue(
            self.study, self.schedule, self._leases, self.pack, self.sole_driver, in_process, self.study.rates
        )
        self._recorder = TrialRecorder(self.study)
        self._kept = KeptAdapters(self.study, self.config, self.schedule.findings.front_probability)
        self._at_work: dict[Pack, list[Trial]] = {}

    def run(self) -> None:
        """Trains until the study has all that its schedule holds, or the space is exhausted.

        Raises:
            SearchStopped: more than ``search.max_failures`` trials failed in a row, or what all trials need is gone.
        """
        with self._leases:
            try:
                while self._start_packs():
                    for pack, outcomes in self.executor.wait():
                        self._finish(pack, outcomes)
                self._exclusively(self._kept.remove_others)
            except (KeyboardInterrupt, SearchStopped):  # no sign of a deadly trial
                self._put_back(trial for trials in self._at_work.values() for trial in trials)
                raise

    def _start_packs(self) -> bool:
        """Starts packs as long as there is room and anything to train; returns False when nothing is left to do."""
        while self.executor.free_slots > 0:
            trials, others_running = self._exclusively(self._take_pack)
            if not trials:
                break
            self._start(trials)
        else:
            if self._at_work:
                return True
            self.progress.waiting("waiting for a worker: there is none, and no room for one")
            return not self._is_done()
        if not self._at_work and others_running:
            self.progress.waiting("waiting for the trials of other drivers")  # they may die, or leave more to do
            time.sleep(_POLL)
        return bool(self._at_work or others_running)

    def _is_done(self) -> bool:
        trials = self._trials()
        return self.schedule.is_done(trials) and not any(trial.state == TrialState.RUNNING for trial in trials)

    def _start(self, trials: list[Trial]) -> None:
        jobs = [self._job(trial) for trial in trials]
        numbers = [trial.number for trial in trials]
        pack = Pack(jobs, partial(self.progress.step, numbers))
        self._at_work[pack] = trials
        self._queue.started()
        parameters = sum(self.study.space.parameters(job.rank_map) for job in jobs)
        self.progress.pack_started(numbers, parameters)
        self.executor.submit(pack)

    def _exclusively(self, unit: Callable[[], T]) -> T:
        """Does something while this driver holds the study's lock, again if the storage was away meanwhile."""

        def locked() -> T:
            with self._lock.acquired():
                return unit()

        return patiently(locked, self.progress.waiting)

    def _take_pack(self) -> tuple[list[Trial], bool]:
        """Takes the next trials to train, and records as failed those at which too many processes have died.

        Returns:
            The trials; and whether any trial is running, which matters where there are none to train.
        """
        at_work = {trial.number for trials in self._at_work.values() for trial in trials}
        while True:
            trials, given_up = self._queue.take(at_work)
            for trial in given_up:
                died = TrainingFailed(f"its process died {MAX_ATTEMPTS} times", "process died")
                if self._recorder.record(trial, self._job(trial), died):
                    self.progress.trial_finished(self.study, trial.number)
            if trials:
                return trials, True
            if not given_up:
                return [], self._queue.others_running()

    def _finish(self, pack: Pack, outcomes: Sequence[Outcome]) -> None:
        """Records what became of a pack's trials.

        Raises:
            SearchStopped: too many trials failed in a row, or nothing can be written.
        """
        trials = self._at_work[pack]
        for trial, outcome in zip([*trials], outcomes, strict=True):
            self._exclusively(partial(self._end, trial, outcome))
            trials.remove(trial)
        del self._at_work[pack]
        self.after_pack()
        if self._kept.is_due:
            self._exclusively(self._kept.remove_others)
        failures = self._recorder.failures
        if len(failures) > self.config.search.max_failures:
            number, reason = failures[-1]
            raise SearchStopped(
                f"{len(failures)} trials failed in a row, the last one (trial {number}) because: {reason}; "
                "fix that and run the same command to go on; if it takes another setting, name another study"
            )

    def _end(self, trial: Trial, outcome: Outcome) -> None:
        """Records a trial's outcome, or leaves it to be trained again if its process died.

        Nothing is recorded where the trial is another driver's by now: then this driver was away for long.
        """
        if isinstance(outcome, Died):
            self._queue.put_back(trial, TrialAttributes.read(trial).attempts + 1)
            return
        if self._leases.holds(trial) and self._recorder.record(trial, self._job(trial), outcome):
            self.progress.trial_finished(self.study, trial.number)
        self._leases.forget(trial.number)

    def _put_back(self, trials: Iterable[Trial]) -> None:
        """Leaves trials to be trained again, which are not to blame for the interruption."""
        # A storage may be away: then the leases die with this process. A trial may just have been recorded.
        with suppress(Exception), self._lock.acquired():
            for trial in trials:
                with suppress(Exception):
                    attempts = TrialAttributes.read(trial).attempts - self.executor.in_process
                    self._queue.put_back(trial, attempts)

    def _job(self, trial: Trial) -> Job:
        return job_of(self.study.read_now(trial), self.config.seed, self.study)

    def _energies(self) -> Mapping[str, Sequence[float]] | None:
        return self.schedule.energies(self._trials())

    def _trials(self) -> list[TrialRecord]:
        return patiently(self.study.trials, self.progress.waiting)
