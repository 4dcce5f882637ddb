"""The search itself: ask for a map, train it, tell what it scored; over and over, losing nothing.

A trial is told to the study only after everything that belongs to it is on disk. If the process dies
before that, the trial is still RUNNING in the study; the next start takes it over under its own number
and seed, so the study comes out as if nothing had happened.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from optuna.trial import Trial, TrialState

from rank_search.core.batch_order import ROUND
from rank_search.core.errors import SearchStopped, TrainingFailed
from rank_search.core.job import Died, Job, Rungs, Stopped
from rank_search.executors.protocol import Pack
from rank_search.search import early_stopping as rungs
from rank_search.search.nested import CONFIRM
from rank_search.search.proposals.samplers import DistinctSampler, derive_seed, is_full, maker, suggest
from rank_search.search.recorder import Teller
from rank_search.search.rivals.rivals import NAME, UNIFORM, Baseline
from rank_search.study import leases
from rank_search.study.faults import patiently

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from rank_search.config import StudyConfig
    from rank_search.core.job import FineTuned, Outcome
    from rank_search.core.ranks import RankMap
    from rank_search.core.space import Space
    from rank_search.executors.protocol import Executor
    from rank_search.search.schedule import Plan
    from rank_search.study.lock import Drivers
    from rank_search.study.storage import StudyFolder

T = TypeVar("T")

ATTEMPTS = "attempts"
_POLL = 2.0  # seconds between two looks at the trials of other drivers
_PATIENCE = 2  # attempts of a pack that end in a death; after more its trials are tried again in smaller ones
_LIKELY = 0.01  # probability of standing on the front, below which an adapter is not kept
MAX_ATTEMPTS = 10  # of one trial, that end in its process's death; it must not go on so for ever
_MAP_STREAM, _DATA_STREAM = 1, 2  # seed streams; the sampler's is 0


class Progress(Protocol):
    """Is told how the search goes."""

    def pack_started(self, numbers: Sequence[int], parameters: int) -> None:
        """Trials begin to train this many parameters together."""

    def step(self, numbers: Sequence[int], steps: int, loss: float) -> None:
        """These trials, which train together, have done so many steps, with this mean loss at the last one."""

    def trial_finished(self, study: Study, number: int) -> None:
        """The trial of this number was told to the study."""

    def waiting(self, why: str) -> None:
        """Nothing can be done for a while."""


def data_seed(study_seed: int, round_: int = 0) -> int:
    """Draws the order of the batches, which all first trainings of a study share, and all of a round of repeats."""
    return derive_seed(study_seed, _DATA_STREAM, *([round_] if round_ else []))


def map_seed(study_seed: int, trial: int) -> int:
    """Draws a trial's fresh adapter."""
    return derive_seed(study_seed, _MAP_STREAM, trial)


def _attempts(trial: Trial | FrozenTrial) -> int:
    """How often a trial's process has died, counting the one at work on it where that is the driver itself."""
    return int(trial.user_attrs.get(ATTEMPTS, 0))


def job_of(trial: Trial | FrozenTrial, config: StudyConfig, space: Space, folder: StudyFolder) -> Job:
    """What a trial trains, now or again: it follows from what the study keeps of it.

    Args:
        trial: one whose proposal is drawn.
        config: the study file.
        space: what is searched.
        folder: holds the adapters that others are cut out of.
    """
    baseline = Baseline.of(trial.user_attrs)
    job = Job(
        baseline.rank_map if baseline else space.rank_map(trial.params),
        seed=map_seed(config.seed, trial.number),
        data_seed=data_seed(config.seed, trial.user_attrs.get(ROUND, 0)),
        number=trial.number,
    )
    if baseline is not None:
        source = None if baseline.source is None else folder.adapter(baseline.source)
        return replace(job, recipe=baseline.recipe, source=source)
    warm = config.search.nested.confirm == "warm" and trial.user_attrs.get("kind") == CONFIRM
    return replace(job, settings=space.settings(trial.params), recipe="warm" if warm else "fresh")


@dataclass
class Search:
    """One driver at work on one study.

    Attributes:
        plan: what is trained beside the sampler's proposals.
        drivers: all drivers of the study.
        pack: how many maps are trained at once.
        sole_driver: no other driver can be at work on this study, since this one holds its lock.
        after_pack: is called when the study was told of a pack, other drivers not kept waiting.
    """

    study: Study
    folder: StudyFolder
    config: StudyConfig
    space: Space
    executor: Executor
    progress: Progress
    plan: Plan
    drivers: Drivers
    pack: int = 1
    sole_driver: bool = False
    after_pack: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        nested = self.plan.nested.scored() if self.plan.nested else ()
        make = maker(self.config.search.sampler, self.space, nested)
        self.study.sampler = DistinctSampler(make, self.config.seed, self.space)
        self._leases = leases.Leases(self.drivers.alone)
        self._at_work: dict[Pack, list[Trial]] = {}
        self._counted: dict[int, int] = {}  # attempts before this one, of trials that are about to begin
        self._kept = 0  # adapters, when it was last said which are worth keeping
        self._teller = Teller(self.study, self.folder, self.space)

    def run(self) -> None:
        """Trains until the study has all that its plan holds, or the space is exhausted.

        Raises:
            SearchStopped: more than ``search.max_failures`` trials failed in a row, or what all trials need is gone.
        """
        with self._leases:
            try:
                while self._goes_on():
                    for pack, outcomes in self.executor.finish():
                        self._finish(pack, outcomes)
                self._keep_adapters()
            except (KeyboardInterrupt, SearchStopped):  # no sign of a deadly trial
                self._let_go(trial for trials in self._at_work.values() for trial in trials)
                raise

    def _goes_on(self) -> bool:
        """Begins packs as long as there is room and anything to train; returns False when nothing is left to do."""
        while self.executor.room > 0:
            trials, others = self._alone(self._take_pack)
            if not trials:
                break
            self._begin(trials)
        else:
            if self._at_work:
                return True
            self.progress.waiting("waiting for a worker: there is none, and no room for one")
            return not self._is_done()
        if not self._at_work and others:
            self.progress.waiting("waiting for the trials of other drivers")  # they may die, or leave more to do
            time.sleep(_POLL)
        return bool(self._at_work or others)

    def _is_done(self) -> bool:
        known = patiently(partial(self.study.get_trials, deepcopy=False))
        return self.plan.is_done(known) and not any(trial.state == TrialState.RUNNING for trial in known)

    def _begin(self, trials: list[Trial]) -> None:
        jobs = [self._job(trial) for trial in trials]
        numbers = [trial.number for trial in trials]
        pack = Pack(jobs, partial(self.progress.step, numbers), self._rungs(trials))
        self._at_work[pack] = trials
        self._counted.clear()
        self.progress.pack_started(numbers, sum(self._parameters(job.rank_map) for job in jobs))
        self.executor.begin(pack)

    def _alone(self, unit: Callable[[], T]) -> T:
        """Does something that other drivers are not to come between, again if the storage was away meanwhile."""

        def done() -> T:
            with self.drivers.alone():
                return unit()

        return patiently(done, self.progress.waiting)

    def _take_pack(self) -> tuple[list[Trial], bool]:
        """Takes the next trials to train, with their leases; tells of those that have killed too many processes.

        Returns:
            The trials; and whether others are running, which matters where there are none to train.
        """
        while trials := self._next_pack():
            for trial in trials:  # counted once, however often the storage has to be asked
                self._counted.setdefault(trial.number, _attempts(trial))
            sound = [trial for trial in trials if self._counted[trial.number] < MAX_ATTEMPTS]
            for trial in trials:
                if trial not in sound:
                    died = TrainingFailed(f"its process died {MAX_ATTEMPTS} times", "process died")
                    if self._teller.tell(trial, self._job(trial), died):
                        self.progress.trial_finished(self.study, trial.number)
            for trial in sound:
                if self.executor.in_process:  # else nobody would be left to count it
                    trial.set_user_attr(ATTEMPTS, self._counted[trial.number] + 1)
                if not self._leases.holds(trial):
                    self._leases.take(trial)
            if sound:
                return sound, True
        return [], bool(self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))

    def _next_pack(self) -> list[Trial]:
        """Trials to train together: those that a dead process left, or new ones; none where there is nothing to do.

        A proposal sees the scores of all that was planned before it, so planned maps and proposals are
        not mixed.
        """
        known = self.study.get_trials(deepcopy=False)
        orphans = [trial for trial in known if trial.state == TrialState.RUNNING and self._is_orphan(trial)]
        attempts = max((_attempts(trial) for trial in orphans), default=0)
        pack = [Trial(self.study, trial._trial_id) for trial in orphans[: self._size_after(attempts)]]
        for trial in pack:
            self._draw(trial)
        if attempts > _PATIENCE:
            return pack
        while not is_full(pack, self.pack):
            known = self.study.get_trials(deepcopy=False)
            planned = self._enqueue_planned(known)
            if not planned and not self.plan.wants_proposal(known):
                break
            if pack and planned != self._is_planned(pack[0]):
                break
            trial = self.study.ask()
            self._leases.take(trial)
            self._draw(trial)
            pack.append(trial)
        return pack

    def _draw(self, trial: Trial) -> None:
        """Draws a trial's proposal, unless it is outside the space."""
        if NAME not in trial.user_attrs:
            suggest(trial, self.space)

    def _size_after(self, attempts: int) -> int:
        """How many trials to try again at once: ever fewer, so that a deadly one is found and spares the others."""
        return max(1, self.pack >> max(0, attempts - _PATIENCE))

    def _is_orphan(self, running: FrozenTrial) -> bool:
        """Whether nobody is at work on a running trial; a sole driver runs no trial but those it is at."""
        if any(running.number == trial.number for trials in self._at_work.values() for trial in trials):
            return False
        lease = running.user_attrs.get(leases.LEASE)
        return self.sole_driver or self._leases.is_ours(lease) or not leases.is_live(lease)

    @staticmethod
    def _is_planned(trial: Trial) -> bool:
        return "kind" in trial.user_attrs

    def _enqueue_planned(self, known: list[FrozenTrial]) -> bool:
        """Enqueues what is next of the plan, if anything is; returns whether the next trial is a planned one.

        Repeats come when there is nothing else to train.
        """
        if any(trial.state == TrialState.WAITING for trial in known):
            return True
        if (first := self.plan.first(known)) is not None:
            planned = [first]
        elif self.plan.wants_proposal(known):
            planned = []
        else:
            planned = self.plan.repeats(known) or self.plan.last(known)
        for trial in planned:
            self.study.enqueue_trial(dict(trial.proposal), user_attrs=dict(trial.attributes))
        return bool(planned)

    def _finish(self, pack: Pack, outcomes: Sequence[Outcome]) -> None:
        """Tells the study what became of a pack's trials.

        Raises:
            SearchStopped: too many trials failed in a row, or nothing can be written.
        """
        trials = self._at_work[pack]
        for trial, outcome in zip([*trials], outcomes, strict=True):
            if isinstance(outcome, Died):
                self._alone(partial(self._try_again, trial, _attempts(trial) + 1))
            else:
                self._alone(partial(self._tell, trial, outcome))
            trials.remove(trial)
        del self._at_work[pack]
        self.after_pack()
        if len(self.folder.adapters()) > 2 * self._kept:  # what is worth keeping takes long to say in a long study
            self._keep_adapters()
        failures = self._teller.failures
        if len(failures) > self.config.search.max_failures:
            number, reason = failures[-1]
            raise SearchStopped(
                f"{len(failures)} trials failed in a row, the last one (trial {number}) because: {reason}; "
                "mend that and run the same command to go on; if it takes another setting, name another study"
            )

    def _try_again(self, trial: Trial, attempts: int) -> None:
        """Leaves a trial to be trained again, after so many attempts that ended in a death."""
        if self._leases.holds(trial):
            trial.set_user_attr(ATTEMPTS, attempts)
        self._leases.let_go(trial)

    def _keep_adapters(self) -> None:
        """Removes the adapters that are not worth keeping."""
        self._alone(lambda: self.folder.keep_adapters(self._worth_keeping()))
        self._kept = len(self.folder.adapters())

    def _let_go(self, trials: Iterable[Trial]) -> None:
        """Leaves trials to be trained again, which are not to blame for it."""
        # A storage may be away: then the leases die with this process. A trial may just have been told.
        with suppress(Exception), self.drivers.alone():
            for trial in trials:
                with suppress(Exception):
                    self._try_again(trial, _attempts(trial) - self.executor.in_process)

    def _job(self, trial: Trial) -> Job:
        return job_of(trial, self.config, self.space, self.folder)

    def _rungs(self, trials: Sequence[Trial]) -> Rungs:
        """Where these trials are looked at, and who goes on: baselines and repeats, and the best of the others."""
        if not self.config.search.early_stopping:
            return Rungs()
        spared = {trial.number for trial in trials if self._is_spared(trial)}

        def keep(steps: int, scores: Mapping[int, float]) -> set[int]:
            trials = patiently(partial(self.study.get_trials, deepcopy=False), self.progress.waiting)
            known = {trial.number: trial for trial in trials}
            at_rung = rungs.earlier_at(steps, known.values()) | dict(scores)
            seen = {
                number: rungs.Seen(score, self._parameters(self.space.rank_map(known[number].params)))
                for number, score in at_rung.items()
                if NAME not in known[number].user_attrs
            }
            return (rungs.going_on(seen) & scores.keys()) | (spared & scores.keys())

        return Rungs(rungs.rung_steps(self.config.training.steps), keep)

    @staticmethod
    def _is_spared(trial: Trial) -> bool:
        of = trial.user_attrs
        return of.get("kind") == UNIFORM or NAME in of or bool(of.get(ROUND))

    def _tell(self, trial: Trial, outcome: FineTuned | Stopped | TrainingFailed) -> None:
        """Tells the study of a trial.

        Not where the trial is another driver's by now: then this driver was away for long.
        """
        if self._leases.holds(trial) and self._teller.tell(trial, self._job(trial), outcome):
            self.progress.trial_finished(self.study, trial.number)
        self._leases.forget(trial.number)

    def _parameters(self, rank_map: RankMap) -> int:
        return self.space.parameters(rank_map)

    def _worth_keeping(self) -> set[int]:
        """Trials whose adapter is kept: whose map may stand on the front, and the baselines it is measured against.

        All of them where repeats are still to tell the noise of trainings, which may put other maps on the front.
        """
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if self.config.search.repeats_planned and not any(trial.user_attrs.get(ROUND) for trial in trials):
            return {trial.number for trial in trials}
        likely = self.plan.front_probability()
        baselines = {trial.number for trial in trials if trial.user_attrs.get("kind", "").startswith("baseline:")}
        return baselines | {number for number, probability in likely.items() if probability >= _LIKELY}
