"""The search itself: ask for a map, train it, tell what it scored; over and over, losing nothing.

A trial is told to the study only after everything that belongs to it is on disk. If the process dies
before that, the trial is still RUNNING in the study; the next start takes it over under its own number
and seed, so the study comes out as if nothing had happened.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from optuna.trial import Trial, TrialState

from rank_search.errors import SearchStopped, TrainingFailed
from rank_search.search import leases, rungs
from rank_search.search.baselines import NAME, RANKS, UNIFORM, Baseline
from rank_search.search.levels import ROUND
from rank_search.search.nested import CONFIRM
from rank_search.search.samplers import DistinctSampler, derive_seed, is_full, maker, suggest
from rank_search.training.result import Job, Rungs, Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from rank_search.config import StudyConfig
    from rank_search.ranks import RankMap
    from rank_search.search.plan import Plan
    from rank_search.search.storage import StudyFolder
    from rank_search.space import Space
    from rank_search.training.result import Outcome

_PATIENCE = 2  # starts of a pack, after which its trials are tried again in smaller ones
_LIKELY = 0.01  # probability of standing on the front, below which an adapter is not kept
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


def data_seed(study_seed: int, round_: int = 0) -> int:
    """Draws the order of the batches, which all first trainings of a study share, and all of a round of repeats."""
    return derive_seed(study_seed, _DATA_STREAM, *([round_] if round_ else []))


def map_seed(study_seed: int, trial: int) -> int:
    """Draws a trial's fresh adapter."""
    return derive_seed(study_seed, _MAP_STREAM, trial)


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
    plan: Plan
    pack: int = 1
    sole_driver: bool = False
    busy: float = 0.0

    def __post_init__(self) -> None:
        nested = self.plan.nested.scored() if self.plan.nested else ()
        make = maker(self.config.search.sampler, self.space, nested)
        self.study.sampler = DistinctSampler(make, self.config.seed, self.space)
        self._failures: list[tuple[int, str]] = []  # trials that failed in a row, and why

    def run(self) -> None:
        """Trains until the study has all that its plan holds, or the space is exhausted.

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
        """Whether the driver of a running trial is dead; a sole driver runs no trial but those it is at."""
        return self.sole_driver or not leases.is_live(running.user_attrs.get(leases.LEASE))

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
        parameters = sum(self._parameters(job.rank_map) for job in jobs)
        self.progress.pack_started([job.number for job in jobs], parameters)
        started = time.perf_counter()
        try:
            return self.executor.train(jobs, self.progress.step, self._rungs(trials))
        except Exception as error:  # whatever went wrong is these trials', and the study goes on
            return [TrainingFailed(_reason(error))] * len(jobs)
        finally:
            self.busy += time.perf_counter() - started

    def _job(self, trial: Trial) -> Job:
        return job_of(trial, self.config, self.space, self.folder)

    def _rungs(self, trials: Sequence[Trial]) -> Rungs:
        """Where these trials are looked at, and who goes on: baselines and repeats, and the best of the others."""
        if not self.config.search.early_stopping:
            return Rungs()
        spared = {trial.number for trial in trials if self._is_spared(trial)}

        def keep(steps: int, scores: Mapping[int, float]) -> set[int]:
            known = {trial.number: trial for trial in self.study.get_trials(deepcopy=False)}
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

    def _tell(self, trial: Trial, outcome: Outcome) -> None:
        """Tells the study of a trial, once all that belongs to it is written down."""
        try:
            values = self._write_down(trial, outcome)
            reason = None
        except Exception as error:  # such as a full disk
            reason = _reason(error)
        if reason is not None:
            if NAME not in trial.user_attrs:  # a model that EVA can't adapt may be searched all the same
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
        trial.set_user_attr("seed", map_seed(self.config.seed, trial.number))
        trial.set_user_attr("seconds", outcome.seconds)
        if outcome.rungs:
            trial.set_user_attr(rungs.ATTRIBUTE, outcome.rungs)
        if isinstance(outcome, Stopped):
            self.folder.write_result(trial.number, {"losses": outcome.losses})
            return None
        evaluation = outcome.evaluation
        if not math.isfinite(evaluation.score):  # Optuna would fail a NaN, but take an infinity
            raise TrainingFailed(f"the score is {evaluation.score} after training; lower the learning rate")
        if outcome.save_adapter is not None:
            outcome.save_adapter(self.folder.adapter(trial.number))
        result = {
            "values": evaluation.values,
            "losses": outcome.losses,
            "adapter": self.folder.adapter_digests(trial.number),
        }
        self.folder.write_result(trial.number, result)
        trial.set_user_attr("score_se", evaluation.standard_error)
        trial.set_user_attr("metrics", evaluation.means)
        rank_map = outcome.rank_map or self._job(trial).rank_map
        if NAME in trial.user_attrs:
            trial.set_user_attr(RANKS, dict(rank_map.ranks))
        return evaluation.score, self._parameters(rank_map)

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


def _reason(error: Exception) -> str:
    reason = str(error) if isinstance(error, TrainingFailed) else f"{type(error).__name__}: {error}"
    return " ".join(reason.split())
