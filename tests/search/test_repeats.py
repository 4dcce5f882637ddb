"""Which maps are trained again, on which orders of batches."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from rank_search.core.candidate import Candidate
from rank_search.core.rivals import EVA, SEARCH, UNIFORM, Rival
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


def repeats(planned: int, *pairs) -> Repeats:
    return Repeats(planned, lambda: list(pairs))


def places(requests: list[TrialRequest]) -> list[tuple[int, int]]:
    """Number of the map, and order of batches, of each."""
    return [(CANDIDATES.index(request.candidate), request.batch_order) for request in requests]


def test_two_maps_that_were_trained_alike_are_trained_on_a_new_order() -> None:
    trials = first_trainings(3)
    first = repeats(4, (1, 2), (0, 2)).next_round(trials)
    assert places(first) == [(2, 1), (1, 1)]
    second = repeats(4, (1, 2), (0, 2)).next_round(repeated(first, trials))
    assert places(second) == [(2, 2), (1, 2)]


def test_a_map_that_comes_later_catches_up_on_the_orders_of_the_other() -> None:
    """The trainings of the best map are used again."""
    trials = first_trainings(3)
    for _ in range(2):
        trials = repeated(repeats(9, (1, 2)).next_round(trials), trials)
    assert places(repeats(9, (0, 2)).next_round(trials)) == [(0, 1), (0, 2)]
    assert places(repeats(5, (0, 2)).next_round(trials)) == [(0, 1)]  # one is left
    assert places(repeats(9, (2, 0)).next_round(trials)) == [(0, 1), (0, 2)]  # whichever of the two it is


def test_repeat_is_the_same_candidate_for_the_same_reason() -> None:
    trials = [trial(0, CANDIDATES[0], kind=UNIFORM), replace(trial(1, CANDIDATES[1]), score=0.5)]
    assert repeats(2, (0, 1)).next_round(trials) == [
        TrialRequest(CANDIDATES[1], SEARCH, batch_order=1),
        TrialRequest(CANDIDATES[0], UNIFORM, batch_order=1),
    ]


def test_a_rival_outside_the_space_is_repeated_as_what_it_is() -> None:
    eva = Candidate(SPACE.uniform(2), recipe="eva")
    kept = TrialAttributes(kind=EVA, recipe="eva", requested_ranks=dict(eva.rank_map.ranks))
    trials = [*first_trainings(1), TrialRecord(1, TrialState.COMPLETE, {}, eva, kept)]
    (request, _) = repeats(2, (0, 1)).next_round(trials)
    assert request == TrialRequest(eva, EVA, Rival(EVA, "eva", 2), 1)


@given(
    st.integers(0, 30),
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda pair: pair[0] != pair[1]), max_size=20),
)
def test_repeats_stay_within_the_plan_and_none_is_alone_on_its_order(planned, pairs) -> None:
    trials = first_trainings(8)
    for i in range(40):
        turn = pairs[i % len(pairs) :] + pairs[: i % len(pairs)] if pairs else []
        trials = repeated(repeats(planned, *turn).next_round(trials), trials)
    again = [(CANDIDATES.index(one.candidate), one.attributes.batch_order) for one in trials[8:]]
    assert len(again) <= planned
    assert len(set(again)) == len(again)
    orders = [order for _, order in again]
    assert sorted(set(orders)) == list(range(1, len(set(orders)) + 1))
    assert all(orders.count(order) >= 2 for order in orders)
    assert not pairs or len(again) >= planned - 1


def test_nothing_is_picked_while_a_round_is_trained() -> None:
    """What it comes to says which comparison is urgent then."""
    plan, trials = repeats(8, (0, 1)), first_trainings(2)
    requests = plan.next_round(trials)
    assert plan.next_round(repeated(requests, trials, state=TrialState.RUNNING)) == []
    assert plan.next_round(repeated(requests, trials))


@pytest.mark.parametrize("state", [TrialState.FAIL, TrialState.COMPLETE])
def test_failed_repeats_count_too(state) -> None:
    plan, trials = repeats(2, (0, 1)), first_trainings(2)
    assert plan.next_round(repeated(plan.next_round(trials), trials, state=state)) == []


def test_the_untrained_model_is_left_out() -> None:
    untrained = SPACE.candidate(dict.fromkeys(SPACE.dimensions, 0))
    trials = [trial(0, untrained), trial(1, CANDIDATES[1]), trial(2, CANDIDATES[2])]
    assert places(repeats(4, (0, 2), (1, 2)).next_round(trials)) == [(2, 1), (1, 1)]
    assert repeats(4, (0, 2)).next_round(trials) == []


@pytest.mark.parametrize(("has_head", "expected"), [(True, [(1, 1), (0, 1)]), (False, [])])
def test_rank_0_everywhere_is_trained_again_where_it_has_a_head(has_head, expected) -> None:
    candidates = [SPACE.candidate(SPACE.proposal(SPACE.uniform(rank))) for rank in (0, 1)]
    trials = [trial(number, candidate) for number, candidate in enumerate(candidates)]
    found = Repeats(4, lambda: [(0, 1)], has_head).next_round(trials)
    assert [(candidates.index(request.candidate), request.batch_order) for request in found] == expected
