"""How long a study still takes, by what its trainings have taken so far."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from rank_search.core.rivals import Rivals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rank_search.config import StudyConfig
    from rank_search.core.space import Space
    from rank_search.study.record import TrialRecord
    from rank_search.tasks.base import Task

Training = Literal["trained", "eva", "adalora", "scored"]

# Seconds of a trial, as parts of those of a training, until one of its kind is done. AdaLoRA trains alone, by PEFT: 1.5
# to 1.7 in three studies (reports/verdicts.md). What EVA takes to find its ranks depends on the model and the data.
_GUESSED: dict[Training, float] = {"trained": 1.0, "eva": 1.0, "adalora": 1.6, "scored": 0.3}
_COMPARED = 3  # maps that the verdict trains afresh: two to four, as one map may have several roles
_SEEDS = 5  # with which it trains them, if it may: the second look, as nobody knows at which all is shown


@dataclass(frozen=True)
class Workload:
    """What a whole study comes to.

    Attributes:
        trials: of all kinds, baselines outside the space included.
        eva: of these, EVA's, which come with a search for their ranks.
        adalora: of these, AdaLoRA's, which are trained one at a time.
        scored: of these, those without a training: truncations, and rank 0 everywhere.
        verdict: fresh trainings at the end, about as many, that are scored on the test split.
        measured: other evaluations on the test split.
        test_size: of the test split, as a part of that of the validation split.
        head: whether rank 0 everywhere is a training too, of a head.
    """

    trials: int
    eva: int
    adalora: int
    scored: int
    verdict: int
    measured: int
    test_size: float
    head: bool

    def planned(self, kind: Training) -> int:
        """Trials of a kind."""
        others: dict[Training, int] = {"eva": self.eva, "adalora": self.adalora, "scored": self.scored}
        return others.get(kind, self.trials - sum(others.values()))

    def kind(self, trial: TrialRecord) -> Training:
        """What the time of a trial is like."""
        recipe = trial.attributes.recipe
        if recipe == "eva":
            return "eva"
        if recipe == "adalora":
            return "adalora"
        candidate = trial.candidate
        untrained = candidate is not None and not candidate.rank_map.adapted and not self.head
        return "scored" if untrained or recipe == "truncate" else "trained"

    def seconds(self, trials: Sequence[TrialRecord]) -> dict[Training, list[float]]:
        """Seconds of the trials that are done, by kind."""
        found: dict[Training, list[float]] = {kind: [] for kind in _GUESSED}
        for trial in trials:
            if trial.state.is_finished() and trial.attributes.seconds is not None:
                found[self.kind(trial)].append(trial.attributes.seconds)
        return found


def seconds_left(work: Workload, trials: Sequence[TrialRecord]) -> float | None:
    """Seconds of training and evaluation that a study still takes; None while nothing is known of a training.

    Args:
        work: the whole study.
        trials: those that it has; those that run now count as not started.
    """
    known = work.seconds(trials)
    if not known["trained"]:
        return None
    trained = fmean(known["trained"])
    each = {kind: fmean(known[kind] or [part * trained]) for kind, part in _GUESSED.items()}
    finished = Counter(work.kind(trial) for trial in trials if trial.state.is_finished())
    of_trials = sum(max(0, work.planned(kind) - finished[kind]) * each[kind] for kind in each)
    on_test = work.test_size * each["scored"]
    fresh = max(0.0, trained - each["scored"]) + on_test
    return of_trials + work.verdict * fresh + work.measured * on_test


def whole_study(config: StudyConfig, space: Space, task: Task) -> Workload:
    """The workload of a whole study, rivals outside the space included."""
    asked = set(config.search.baselines)
    rivals = Rivals(space, asked)
    at_choice = 1 if rivals.truncations else 0  # the truncation to the size of the chosen map
    maps = min(config.search.maps, space.size)
    return Workload(
        trials=int(maps) + config.search.repeats_planned + len(rivals.all) + at_choice,
        eva=len(Rivals(space, {"eva"} & asked).all),
        adalora=len(Rivals(space, {"adalora"} & asked).all),
        scored=len(rivals.truncations) + at_choice + (1 if space.ladder[0] == 0 and not task.head else 0),
        verdict=_COMPARED * min(_SEEDS, config.search.verdict_seeds),
        measured=1 + _COMPARED,
        test_size=task.size("test") / task.size("validation"),
        head=bool(task.head),
    )
