"""The queue: which trials a driver trains next, and who may train them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from rank_search.search.proposals.samplers import is_full, suggest
from rank_search.study.leases import is_live
from rank_search.study.optuna_compat import reopened
from rank_search.study.record import TrialAttributes, keep

if TYPE_CHECKING:
    from collections.abc import Collection

    from optuna.trial import FrozenTrial, Trial

    from rank_search.core.rates import LearningRates
    from rank_search.search.schedule import Schedule
    from rank_search.study.handle import Study
    from rank_search.study.leases import Leases

MAX_ATTEMPTS = 10  # of one trial that end in the death of its process; it must not go on so for ever
_PATIENCE = 2  # attempts of a pack that end in a death; after more its trials are tried again in smaller packs


@dataclass
class TrialQueue:
    """The queue of one driver of a study. All methods are called while the driver holds the study's exclusive lock.

    Attributes:
        leases: those that this driver holds.
        pack: how many maps are trained at once.
        sole_driver: no other driver can be at work on this study, since this one holds its folder's lock.
        counts_attempts: whether an attempt counts when it is started: a process that dies can't count it afterwards.
        rates: learning rates by the size of a map; None where all are trained at the study file's own.
    """

    study: Study
    schedule: Schedule
    leases: Leases
    pack: int
    sole_driver: bool
    counts_attempts: bool
    rates: LearningRates | None = None
    _attempts_before: dict[int, int] = field(default_factory=dict)  # of trials that are about to start

    def take(self, at_work: Collection[int]) -> tuple[list[Trial], list[Trial]]:
        """Takes the next trials to train together, with their leases.

        Args:
            at_work: numbers of the trials that this driver is training.

        Returns:
            The trials to train, none where there is nothing to do; and those that are given up, since too many
            processes have died at them.
        """
        trials = self._next_pack(at_work)
        for trial in trials:  # counted once, however often the storage has to be asked
            self._attempts_before.setdefault(trial.number, TrialAttributes.read(trial).attempts)
        sound = [trial for trial in trials if self._attempts_before[trial.number] < MAX_ATTEMPTS]
        for trial in sound:
            if self.counts_attempts:
                keep(trial, attempts=self._attempts_before[trial.number] + 1)
            if not self.leases.holds(trial):
                self.leases.acquire(trial)
        return sound, [trial for trial in trials if trial not in sound]

    def started(self) -> None:
        """Forgets the attempts before, as the trials that were taken are at work now."""
        self._attempts_before.clear()

    def others_running(self) -> bool:
        """Whether any trial is running, this driver's included."""
        return bool(self.study.optuna_study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))

    def put_back(self, trial: Trial, attempts: int) -> None:
        """Leaves a trial to be trained again, after so many attempts that ended in a death."""
        if self.leases.holds(trial):
            keep(trial, attempts=attempts)
        self.leases.release(trial)

    def _next_pack(self, at_work: Collection[int]) -> list[Trial]:
        """Trials that a dead process left, or new ones.

        A proposal sees the scores of all that was planned before it, so planned maps and proposals are not mixed.
        """
        optuna_study = self.study.optuna_study
        running = optuna_study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        orphans = [trial for trial in running if self._is_orphan(trial, at_work)]
        attempts = max((TrialAttributes.read(trial).attempts for trial in orphans), default=0)
        pack = [reopened(optuna_study, trial) for trial in orphans[: self._size_after(attempts)]]
        for trial in pack:
            self._draw(trial)
        if attempts > _PATIENCE:
            return pack
        try:
            self._fill(pack)
        except Exception:  # such as a damaged result, by which nothing can be chosen: none of them is started
            for trial in pack:
                self.leases.release(trial)
            raise
        return pack

    def _fill(self, pack: list[Trial]) -> None:
        """Adds new trials to a pack, as long as there is room and anything to train."""
        while not is_full(pack, self.pack):
            planned = self._enqueue_planned()
            if not planned and not self.schedule.wants_proposal(self.study.trials()):
                break
            if pack and planned != _is_planned(pack[0]):
                break
            trial = self.study.optuna_study.ask()
            self.leases.acquire(trial)
            pack.append(trial)
            self._draw(trial)

    def _enqueue_planned(self) -> bool:
        """Enqueues what is next on the schedule, if anything is; returns whether the next trial is a planned one."""
        trials = self.study.trials()
        if any(trial.state == TrialState.WAITING for trial in trials):
            return True
        requests = self.schedule.next(trials)
        for request in requests:
            self.study.enqueue(request)
        return bool(requests)

    def _draw(self, trial: Trial) -> None:
        """Draws a trial's proposal, unless it is outside the space; and gives it the learning rate of its size."""
        attributes = TrialAttributes.read(trial)
        if attributes.requested_ranks is None:
            suggest(trial, self.study.space)
        if self.rates is not None and not attributes.settings:
            candidate = self.study.read_now(trial).candidate
            if candidate is not None:
                keep(trial, settings=self.rates.settings(self.study.space.parameters(candidate.rank_map)))

    def _size_after(self, attempts: int) -> int:
        """How many trials to try again at once: ever fewer, so that a deadly one is found and spares the others."""
        return max(1, self.pack >> max(0, attempts - _PATIENCE))

    def _is_orphan(self, running: FrozenTrial, at_work: Collection[int]) -> bool:
        """Whether no process works on a running trial; a sole driver works on all of its running trials itself."""
        if running.number in at_work:
            return False
        lease = TrialAttributes.read(running).lease
        return self.sole_driver or self.leases.is_ours(lease) or not is_live(lease)


def _is_planned(trial: Trial) -> bool:
    """Whether a trial came from the schedule: only those keep why they are trained."""
    return "kind" in TrialAttributes.read(trial).model_fields_set
