"""Repeats: maps that the choice is in doubt about are trained again, side by side, on batches in another order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from rank_search.study.record import TrialRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rank_search.core.candidate import Candidate
    from rank_search.study.record import TrialRecord

_LEAST_ROUND = 3  # repeats of a round, where so many are left: the best map, and those that it is compared with


@dataclass(frozen=True)
class Repeats:
    """The repeats of one study.

    Attributes:
        planned: how many there will be.
        in_doubt: numbers of the maps whose further training would settle the choice soonest, these first.
    """

    planned: int
    in_doubt: Callable[[], Sequence[int]]

    def next_round(self, trials: Sequence[TrialRecord]) -> list[TrialRequest]:
        """The next round of repeats: the maps that the choice is in doubt about, on batches of their own.

        All maps of a round share its order of batches and its seed, as those of the first trainings do, so that they
        are compared in pairs. Half of what is left is one round, as what it comes to says where the next is needed. A
        last single repeat joins the round before it. Empty while a round is trained, and when all are.
        """
        repeated = [trial for trial in trials if trial.attributes.batch_order]
        left = self.planned - len(repeated)
        if left <= 0 or any(trial.state == TrialState.RUNNING for trial in repeated):
            return []
        last = max((trial.attributes.batch_order for trial in repeated), default=0)
        batch_order = last if left == 1 else last + 1
        in_round = {trial.candidate for trial in repeated if trial.attributes.batch_order == batch_order}
        by_doubt = self._by_doubt(trials, without=in_round)
        picked = by_doubt[: min(left, max(_LEAST_ROUND, left // 2))]
        if len(in_round) + len(picked) < 2:  # an order of batches that one map alone has seen says nothing
            return []
        return [
            TrialRequest(trial.candidate, trial.attributes.kind, trial.rival, batch_order)
            for trial in picked
            if trial.candidate is not None
        ]

    def _by_doubt(self, trials: Sequence[TrialRecord], without: set[Candidate | None]) -> list[TrialRecord]:
        """First trainings of the maps in doubt.

        The untrained model is left out: it scores the same each time.
        """
        by_number = {trial.number: trial for trial in trials}
        first = [by_number[number] for number in self.in_doubt() if number in by_number]
        return [
            trial
            for trial in first
            if trial.candidate is not None and trial.candidate.rank_map.adapted and trial.candidate not in without
        ]
