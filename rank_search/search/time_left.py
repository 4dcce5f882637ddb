"""How long a study still takes, by what its trainings have taken so far."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from rank_search.search.baselines import KINDS, RECIPE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.trial import FrozenTrial

# AdaLoRA trains alone, by PEFT: 1.5 to 1.7 times the seconds of other trainings in three studies (reports/verdicts.md).
_ALONE = 1.6
_SCORED = 0.3  # of a training, until one was scored without

Kind = Literal["trained", "alone", "scored"]


@dataclass(frozen=True)
class Workload:
    """What a whole study comes to.

    Attributes:
        trials: of all kinds, baselines outside the space included.
        alone: of these, AdaLoRA's, which are trained one at a time.
        scored: of these, those without a training: truncations, and rank 0 everywhere.
        verdict: fresh trainings at the end, about as many.
    """

    trials: int
    alone: int
    scored: int
    verdict: int

    def planned(self, kind: Kind) -> int:
        """Trials of a kind."""
        found = {"alone": self.alone, "scored": self.scored}
        return found.get(kind, self.trials - self.alone - self.scored)


def kind_of(trial: FrozenTrial) -> Kind:
    """What a trial's time is like."""
    if trial.user_attrs.get("kind") == KINDS["adalora"]:
        return "alone"
    cut = trial.user_attrs.get(RECIPE) == "truncated"
    return "scored" if cut or (trial.values and trial.values[1] == 0) else "trained"


def seconds_of(trials: Sequence[FrozenTrial]) -> dict[Kind, list[float]]:
    """Seconds of the trials that are done, by kind."""
    found: dict[Kind, list[float]] = {"trained": [], "alone": [], "scored": []}
    for trial in trials:
        if trial.state.is_finished() and "seconds" in trial.user_attrs:
            found[kind_of(trial)].append(trial.user_attrs["seconds"])
    return found


def seconds_left(work: Workload, trials: Sequence[FrozenTrial]) -> float | None:
    """Seconds of training and evaluation that a study still takes; None while nothing is known of a training.

    Args:
        work: the whole study.
        trials: those that it has; those at work count as not begun.
    """
    known = seconds_of(trials)
    if not known["trained"]:
        return None
    trained = fmean(known["trained"])
    each: dict[Kind, float] = {
        "trained": trained,
        "alone": fmean(known["alone"] or [_ALONE * trained]),
        "scored": fmean(known["scored"] or [_SCORED * trained]),
    }
    finished: dict[Kind, int] = {"trained": 0, "alone": 0, "scored": 0}
    for trial in trials:
        if trial.state.is_finished():
            finished[kind_of(trial)] += 1
    of_trials = sum(max(0, work.planned(kind) - finished[kind]) * each[kind] for kind in each)
    return of_trials + work.verdict * trained
