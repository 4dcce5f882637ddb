"""How long a study still takes, by what its trainings have taken so far."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from rank_search.search.rivals.rivals import KINDS, RECIPE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.trial import FrozenTrial

Kind = Literal["trained", "eva", "adalora", "scored"]

# Seconds of a trial, as parts of those of a training, until one of its kind is done. AdaLoRA trains alone, by PEFT: 1.5
# to 1.7 in three studies (reports/verdicts.md). What EVA takes to find its ranks depends on the model and the data.
_GUESSED: dict[Kind, float] = {"trained": 1.0, "eva": 1.0, "adalora": 1.6, "scored": 0.3}


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

    def planned(self, kind: Kind) -> int:
        """Trials of a kind."""
        others: dict[Kind, int] = {"eva": self.eva, "adalora": self.adalora, "scored": self.scored}
        return others.get(kind, self.trials - sum(others.values()))

    def kind(self, trial: FrozenTrial) -> Kind:
        """What a trial's time is like."""
        name = trial.user_attrs.get("kind")
        if name == KINDS["eva"]:
            return "eva"
        if name == KINDS["adalora"]:
            return "adalora"
        untrained = bool(trial.values) and trial.values[1] == 0 and not self.head
        return "scored" if untrained or trial.user_attrs.get(RECIPE) == "truncated" else "trained"

    def seconds(self, trials: Sequence[FrozenTrial]) -> dict[Kind, list[float]]:
        """Seconds of the trials that are done, by kind."""
        found: dict[Kind, list[float]] = {kind: [] for kind in _GUESSED}
        for trial in trials:
            if trial.state.is_finished() and "seconds" in trial.user_attrs:
                found[self.kind(trial)].append(trial.user_attrs["seconds"])
        return found


def seconds_left(work: Workload, trials: Sequence[FrozenTrial]) -> float | None:
    """Seconds of training and evaluation that a study still takes; None while nothing is known of a training.

    Args:
        work: the whole study.
        trials: those that it has; those at work count as not begun.
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
