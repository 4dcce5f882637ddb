"""Which maps are trained again, in which round."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from rank_search.core.rivals import SEARCH, UNIFORM
from rank_search.search.repeats import Repeats
from rank_search.study.record import TrialAttributes, TrialRecord, TrialRequest
from tests.bench import SPACE

CANDIDATES = [SPACE.candidate(dict(zip(SPACE.dimensions, (1, i % 4, i // 4, 0), strict=True))) for i in range(16)]


def trial(number: int, candidate, *, batch_order=0, state=TrialState.COMPLETE, kind=SEARCH) -> TrialRecord:
    return TrialRecord(number, state, {}, candidate, TrialAttributes(kind=kind, batch_order=batch_order))


def first_trainings(count: int) -> list[TrialRecord]:
    return [trial(number, CANDIDATES[number]) for number in range(count)]


def repeated(requests: list[TrialRequest], trials: list[TrialRecord], **changes) -> list[TrialRecord]:
    """The trials with those that were requested."""
    started = [
        trial(len(trials) + i, request.candidate, batch_order=request.batch_order, **changes)
        for i, request in enumerate(requests)
    ]
    return [*trials, *started]


def repeats(planned: int, in_doubt) -> Repeats:
    return Repeats(planned, lambda: list(in_doubt))


def all_rounds(plan: Repeats, trials: list[TrialRecord]) -> list[list[TrialRequest]]:
    rounds = []
    while requests := plan.next_round(trials):
        rounds.append(requests)
        trials = repeated(requests, trials)
    return rounds


def test_maps_come_in_the_order_of_doubt() -> None:
    requests = repeats(3, [4, 1, 3, 0]).next_round(first_trainings(5))
    assert [request.candidate for request in requests] == [CANDIDATES[4], CANDIDATES[1], CANDIDATES[3]]


def test_repeat_is_the_same_candidate_for_the_same_reason_on_other_batches() -> None:
    trials = [trial(0, CANDIDATES[0], kind=UNIFORM), replace(trial(1, CANDIDATES[1]), score=0.5)]
    requests = repeats(2, [0, 1]).next_round(trials)
    assert requests == [
        TrialRequest(CANDIDATES[0], UNIFORM, batch_order=1),
        TrialRequest(CANDIDATES[1], SEARCH, batch_order=1),
    ]


@given(st.integers(0, 40), st.permutations(range(16)), st.integers(2, 16))
def test_rounds_stay_within_the_plan_and_repeat_no_map_on_the_same_batches(planned, order, count) -> None:
    rounds = all_rounds(repeats(planned, [number for number in order if number < count]), first_trainings(count))
    assert sum(len(requests) for requests in rounds) <= planned
    pairs = [(request.candidate, request.batch_order) for requests in rounds for request in requests]
    assert len(set(pairs)) == len(pairs)
    orders = [request.batch_order for requests in rounds for request in requests]
    assert orders == sorted(orders)
    assert all(orders.count(order) >= 2 for order in orders)
    assert sorted(set(orders)) == list(range(1, len(set(orders)) + 1))


@pytest.mark.parametrize(
    ("planned", "sizes"), [(0, []), (1, []), (2, [2]), (6, [3, 3]), (7, [3, 3, 1]), (8, [4, 3, 1]), (16, [8, 4, 3, 1])]
)
def test_many_repeats_are_several_rounds_of_half_of_what_is_left(planned, sizes) -> None:
    plan = repeats(planned, range(16))
    assert [len(requests) for requests in all_rounds(plan, first_trainings(16))] == sizes


def test_a_last_single_repeat_joins_the_round_before_it() -> None:
    """A raised plan leaves one over; it takes the map that has not seen these batches."""
    trials = first_trainings(3)
    trials = repeated(repeats(2, range(3)).next_round(trials), trials)
    (request,) = repeats(3, range(3)).next_round(trials)
    assert (request.candidate, request.batch_order) == (CANDIDATES[2], 1)


def test_nothing_is_picked_while_a_round_is_trained() -> None:
    """What it comes to says where the next round is needed."""
    plan = repeats(8, range(6))
    trials = first_trainings(6)
    requests = plan.next_round(trials)
    assert plan.next_round(repeated(requests, trials, state=TrialState.RUNNING)) == []
    assert plan.next_round(repeated(requests, trials))


@pytest.mark.parametrize("state", [TrialState.FAIL, TrialState.COMPLETE])
def test_failed_repeats_count_too(state) -> None:
    plan = repeats(2, range(4))
    trials = first_trainings(4)
    assert plan.next_round(repeated(plan.next_round(trials), trials, state=state)) == []


def test_untrained_model_and_maps_without_a_score_are_left_out() -> None:
    untrained = SPACE.candidate(dict.fromkeys(SPACE.dimensions, 0))
    failed = trial(3, CANDIDATES[3], state=TrialState.FAIL)  # nothing is known of it, so nobody doubts
    trials = [trial(0, untrained), trial(1, CANDIDATES[1]), trial(2, CANDIDATES[2]), failed]
    requests = repeats(4, [0, 2, 1]).next_round(trials)
    assert [request.candidate for request in requests] == [CANDIDATES[2], CANDIDATES[1]]


def test_one_map_alone_is_not_repeated() -> None:
    """An order of batches that one map alone has seen says nothing of the others."""
    assert repeats(4, [0]).next_round(first_trainings(1)) == []
