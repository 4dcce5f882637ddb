"""Repeats: two maps between which the choice is in doubt are trained again, on batches in other orders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from rank_search.study.record import TrialRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rank_search.core.candidate import Candidate
    from rank_search.study.record import TrialRecord

    Orders = dict[Candidate, set[int]]  # of batches, that trainings of each candidate were started on


@dataclass(frozen=True)
class Repeats:
    """The repeats of one study.

    Attributes:
        planned: how many there will be.
        contested: pairs of maps, by their numbers, whose comparison decides what is chosen; the most urgent first.
        has_head: a head is trained with every map, with that of rank 0 everywhere too.
    """

    planned: int
    contested: Callable[[], Sequence[tuple[int, int]]]
    has_head: bool = False

    def next_round(self, trials: Sequence[TrialRecord]) -> list[TrialRequest]:
        """The next round of repeats: those that give the most urgent comparison one more pair, or several.

        A map that was trained on fewer orders of batches than the other catches up, so that the trainings of that one
        are used again; two maps that were trained on the same ones are both trained on a new one. What a round comes to
        says which comparison is urgent then. Empty while a round is trained, and when all are.
        """
        repeated = [trial for trial in trials if trial.attributes.batch_order]
        left = self.planned - len(repeated)
        if left <= 0 or any(trial.state == TrialState.RUNNING for trial in repeated):
            return []
        by_number = {trial.number: trial for trial in trials}
        orders = _orders(trials)
        for pair in self.contested():
            maps = [by_number[number] for number in pair if number in by_number and self._can_repeat(by_number[number])]
            if len(maps) == 2 and (requests := _one_more_pair(maps[0], maps[1], orders, left)):
                return requests
        return []

    def _can_repeat(self, trial: TrialRecord) -> bool:
        """Whether another training says more: the untrained model scores the same each time."""
        return trial.candidate is not None and (self.has_head or bool(trial.candidate.rank_map.adapted))


def _orders(trials: Iterable[TrialRecord]) -> Orders:
    found: Orders = {}
    for trial in trials:
        if trial.candidate is not None:
            found.setdefault(trial.candidate, set()).add(trial.attributes.batch_order)
    return found


def _one_more_pair(one: TrialRecord, other: TrialRecord, orders: Orders, left: int) -> list[TrialRequest]:
    """Repeats after which two maps have more orders of batches in common; none where too few are left for it."""
    assert one.candidate is not None and other.candidate is not None  # noqa: S101, PT018  # both can be repeated
    of_one, of_other = orders[one.candidate], orders[other.candidate]
    if behind := of_other - of_one:
        return [_request(one, order) for order in sorted(behind)[:left]]
    if behind := of_one - of_other:
        return [_request(other, order) for order in sorted(behind)[:left]]
    if left < 2:
        return []
    new = 1 + max(max(known) for known in orders.values())
    return [_request(other, new), _request(one, new)]


def _request(trial: TrialRecord, batch_order: int) -> TrialRequest:
    assert trial.candidate is not None  # noqa: S101  # it can be repeated
    return TrialRequest(trial.candidate, trial.attributes.kind, trial.rival, batch_order)
