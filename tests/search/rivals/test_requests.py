"""When each rival outside the space is requested, and as what."""

from __future__ import annotations

import pytest
from optuna.trial import TrialState

from rank_search.core.candidate import Candidate
from rank_search.core.rivals import ADALORA, EVA, SVD, Rival, Rivals, truncated_to
from rank_search.search.rivals.requests import RivalRequests
from rank_search.search.rivals.truncations import truncate_to_budget, truncate_to_energy
from rank_search.study.record import TrialAttributes, TrialRecord, TrialRequest
from tests.bench import SPACE

ALL = ("svd", "eva", "adalora")
SPECTRUM = {name: [weight / (1 + i) for i in range(8)] for name, weight in zip(SPACE.shapes, (5, 1, 3, 2), strict=True)}
BUDGET = 50


def rivals(names=ALL) -> RivalRequests:
    return RivalRequests(Rivals(SPACE, names), lambda _trial: SPECTRUM)


def trial(number: int, request: TrialRequest, state=TrialState.COMPLETE) -> TrialRecord:
    """The record of a request, as the study reads it."""
    return TrialRecord(number, state, {}, request.candidate, TrialAttributes.model_validate(request.attributes))


def all_of(requests: RivalRequests, state=TrialState.COMPLETE, first=0) -> list[TrialRecord]:
    """All that is requested, one after another, each of which comes to this state."""
    trials: list[TrialRecord] = []
    while request := requests.next(trials):
        trials.append(trial(first + len(trials), request, state))
    return trials


@pytest.mark.parametrize("names", [(), ("svd",), ("eva",), ("adalora",), ("eva", "adalora"), ALL])
def test_every_rival_is_requested_once_in_the_order_of_the_study(names) -> None:
    requests = rivals(names)
    trials = all_of(requests)
    assert [each.rival for each in trials] == list(Rivals(SPACE, names).all)
    assert requests.missing(trials) == []


@pytest.mark.parametrize(("recipe", "kind"), [("eva", EVA), ("adalora", ADALORA)])
def test_redistributions_start_from_uniform_ranks(recipe, kind) -> None:
    candidates = [each.candidate for each in all_of(rivals([recipe]))]
    assert candidates == [Candidate(SPACE.uniform(rank), recipe=recipe) for rank in (1, 2, 4)]
    first = rivals([recipe]).next([])
    assert (first.kind, first.rival) == (kind, Rival(kind, recipe, rank=1))


def test_redistributed_ranks_do_not_make_a_trial_another_rival() -> None:
    requests = rivals(["eva"])
    request = requests.next([])
    ranks = {name: 3 * (i == 0) for i, name in enumerate(SPACE.shapes)}
    attributes = TrialAttributes.model_validate({**request.attributes, "ranks": ranks})
    ended = TrialRecord(0, TrialState.COMPLETE, {}, request.candidate, attributes)
    assert request.rival not in requests.missing([ended])


def test_truncations_are_cut_out_of_the_large_training_by_its_spectrum() -> None:
    trials = all_of(rivals(["svd"]), first=4)
    large, *truncations = trials
    assert large.candidate == Candidate(SPACE.uniform(8))
    assert {each.candidate.source for each in truncations} == {4}
    for each in truncations:
        rival = each.rival
        expected = (
            truncate_to_budget(SPECTRUM, SPACE.shapes, rival.budget)
            if rival.budget is not None
            else truncate_to_energy(SPECTRUM, SPACE.shapes, rival.energy)
        )
        assert each.candidate == Candidate(expected, recipe="truncate", source=4)


def test_truncations_wait_for_the_large_training_and_the_others_do_not() -> None:
    requests = rivals()
    trials = [trial(0, requests.next([]), TrialState.RUNNING)]
    while request := requests.next(trials):
        assert request.candidate.recipe in {"eva", "adalora"}
        trials.append(trial(len(trials), request))
    assert requests.missing(trials) == list(Rivals(SPACE, ALL).truncations)
    ended = [trial(0, rivals().next([])), *trials[1:]]
    assert requests.next(ended).candidate.recipe == "truncate"


def test_without_the_large_training_truncations_will_never_come() -> None:
    requests = rivals()
    failed = trial(0, requests.next([]), TrialState.FAIL)
    assert requests.missing([failed]) == list(Rivals(SPACE, ALL).redistributions)
    assert requests.large_trial([failed]) is None
    assert requests.at_budget(BUDGET, [failed]) is None


def test_failed_rivals_are_not_requested_again() -> None:
    trials = all_of(rivals(["eva"]), TrialState.FAIL)
    assert [each.rival for each in trials] == list(Rivals(SPACE, ["eva"]).all)


def test_uniform_map_of_the_same_rank_is_not_the_rival() -> None:
    """A rank of the space may be as large as the large training's."""
    proposal = SPACE.proposal(SPACE.uniform(4))
    plain = TrialRecord(0, TrialState.COMPLETE, proposal, SPACE.candidate(proposal))
    requests = rivals()
    assert requests.large_trial([plain]) is None
    assert requests.missing([plain]) == list(Rivals(SPACE, ALL).all)


def test_truncation_to_a_budget_is_requested_once() -> None:
    requests = rivals(["svd"])
    trials = all_of(requests)
    request = requests.at_budget(BUDGET, trials)
    assert request.rival == truncated_to(BUDGET)
    assert (request.kind, request.candidate.source) == (SVD, 0)
    assert SPACE.parameters(request.candidate.rank_map) <= BUDGET
    assert requests.at_budget(BUDGET, [*trials, trial(len(trials), request, TrialState.FAIL)]) is None


def test_truncation_to_a_budget_needs_room_for_a_component_and_a_study_that_wants_it() -> None:
    cheapest = Rivals(SPACE, ALL).smallest_budget
    trials = all_of(rivals(["svd"]))
    assert rivals(["svd"]).at_budget(cheapest - 1, trials) is None
    assert rivals(["svd"]).at_budget(cheapest, trials).candidate.rank_map.adapted
    assert rivals(["eva"]).at_budget(BUDGET, trials) is None
    assert rivals(["svd"]).at_budget(BUDGET, trials[1:]) is None  # there is no large training yet
