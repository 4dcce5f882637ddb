"""Repeats: maps whose place on the front is uncertain are trained again, on batches in another order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from rank_search.study.record import TrialRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rank_search.core.candidate import Candidate
    from rank_search.study.record import TrialRecord

_ONE_ROUND = 8  # repeats below which all that are left are one round


@dataclass(frozen=True)
class Repeats:
    """The repeats of one study.

    Attributes:
        planned: how many there will be.
        front_probability: number of each finished trial in the space → how likely its map is on the front.
    """

    planned: int
    front_probability: Callable[[], Mapping[int, float]]

    def next_round(self, trials: Sequence[TrialRecord]) -> list[TrialRequest]:
        """The next round of repeats: the maps whose place on the front is least certain, on batches of their own.

        All maps of a round share its order of batches, as those of the first trainings do, so that what an order adds
        to a score is the same for all of them. A last single repeat joins the round before it. Empty while a round is
        trained, and when all are.
        """
        repeated = [trial for trial in trials if trial.attributes.batch_order]
        left = self.planned - len(repeated)
        if left <= 0 or any(trial.state == TrialState.RUNNING for trial in repeated):
            return []
        last = max((trial.attributes.batch_order for trial in repeated), default=0)
        batch_order = last if left == 1 else last + 1
        in_round = {trial.candidate for trial in repeated if trial.attributes.batch_order == batch_order}
        by_doubt = self._by_doubt(trials, without=in_round)
        picked = by_doubt[: left if left < _ONE_ROUND else left // 2]
        if len(in_round) + len(picked) < 2:  # an order of batches that one map alone has seen says nothing
            return []
        return [
            TrialRequest(trial.candidate, trial.attributes.kind, batch_order=batch_order)
            for trial in picked
            if trial.candidate is not None
        ]

    def _by_doubt(self, trials: Sequence[TrialRecord], without: set[Candidate | None]) -> list[TrialRecord]:
        """First trainings, those whose place on the front is least certain first.

        The untrained model is left out: it scores the same each time.
        """
        probability = self.front_probability()
        first = [
            trial
            for trial in trials
            if trial.number in probability
            and not trial.attributes.batch_order
            and trial.candidate is not None
            and trial.candidate.rank_map.adapted
            and trial.candidate not in without
        ]
        return sorted(first, key=lambda trial: (abs(probability[trial.number] - 0.5), trial.number))
