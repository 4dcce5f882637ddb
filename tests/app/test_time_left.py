"""How long a study still takes."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from rank_search.app.time_left import Workload, seconds_left, whole_study
from rank_search.core.candidate import Candidate
from rank_search.core.ranks import RankMap
from rank_search.study.record import TrialAttributes, TrialRecord
from tests.bench import SPACE, study_config

WORK = Workload(trials=11, eva=1, adalora=2, scored=3, verdict=4, measured=5, test_size=2, head=False)


def only(trials, scored=0, verdict=0) -> Workload:
    return Workload(trials, 0, 0, scored, verdict, measured=0, test_size=1, head=False)


def trial(seconds, rank=1, state=TrialState.COMPLETE, recipe="scratch") -> TrialRecord:
    attributes = TrialAttributes(seconds=seconds, recipe=recipe)
    return TrialRecord(0, state, {}, Candidate(RankMap({"w": rank})), attributes)


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("trained", trial(1)),
        ("scored", trial(1, rank=0)),
        ("scored", trial(1, recipe="truncate")),
        ("eva", trial(1, recipe="eva")),
        ("adalora", trial(1, recipe="adalora")),
        ("trained", trial(1, state=TrialState.PRUNED)),
        ("trained", replace(trial(1), candidate=None)),
    ],
)
def test_kinds(kind, made) -> None:
    assert WORK.kind(made) == kind


def test_a_head_is_trained_at_rank_0_too() -> None:
    assert replace(WORK, head=True).kind(trial(1, rank=0)) == "trained"


def test_every_trial_is_planned_under_one_kind() -> None:
    planned = {kind: WORK.planned(kind) for kind in ("trained", "eva", "adalora", "scored")}
    assert planned == {"trained": 5, "eva": 1, "adalora": 2, "scored": 3}


def test_nothing_is_said_before_a_training() -> None:
    assert seconds_left(WORK, []) is None
    assert seconds_left(WORK, [trial(1, rank=0)]) is None
    assert seconds_left(WORK, [trial(None, state=TrialState.FAIL), trial(5, state=TrialState.RUNNING)]) is None


def test_time_left_is_what_each_kind_has_taken() -> None:
    known = [trial(10), trial(20), trial(2, rank=0), trial(40, recipe="adalora")]
    of_trials = 3 * 15 + 15 + 1 * 40 + 2 * 2  # 5 trained, 1 of EVA's, 2 of AdaLoRA's and 3 scored in all
    on_test = 2 * 2  # seconds, of a split twice as large
    assert seconds_left(WORK, known) == of_trials + 4 * (15 - 2 + on_test) + 5 * on_test


def test_the_search_for_ranks_of_eva_is_not_expected_of_others() -> None:
    known = [trial(10), trial(100, recipe="eva")]
    assert seconds_left(WORK, known) == seconds_left(WORK, known[:1]) - 10


def test_what_was_not_seen_yet_is_guessed_from_a_training() -> None:
    assert seconds_left(WORK, [trial(10)]) == pytest.approx(4 * 10 + 10 + 2 * 16 + 3 * 3 + 4 * (7 + 6) + 5 * 6)


def test_failed_and_surplus_trials_leave_nothing_to_do() -> None:
    failed = [trial(None, state=TrialState.FAIL) for _ in range(4)]
    assert seconds_left(only(5), [trial(10), *failed]) == 0
    assert seconds_left(only(1), [trial(10), trial(10)]) == 0
    assert seconds_left(only(2), [trial(10), trial(None, state=TrialState.RUNNING)]) == 10


@given(st.integers(1, 20), st.floats(0.1, 1000))
def test_a_trial_that_takes_what_was_expected_takes_just_that_off(done, seconds) -> None:
    before, after = (seconds_left(only(21), [trial(seconds)] * count) for count in (done, done + 1))
    assert before - after == pytest.approx(seconds)


def test_an_evaluation_that_takes_longer_than_a_training_costs_no_negative_time() -> None:
    """As the seconds of a map that trains in a pack are its share."""
    assert seconds_left(only(2, scored=1, verdict=3), [trial(1), trial(100, rank=0)]) == 3 * 100


def task(head=()) -> SimpleNamespace:
    return SimpleNamespace(head=head, size={"validation": 100, "test": 50}.__getitem__)


SEARCH = {"trials": 8, "repeats": 2, "verdict_seeds": 2}


def test_whole_study_without_baselines_is_its_trials_and_the_verdict() -> None:
    work = whole_study(study_config(search=SEARCH), SPACE, task())
    scored = 1  # rank 0 everywhere
    assert work == Workload(8, 0, 0, scored, verdict=3 * 2, measured=4, test_size=0.5, head=False)


def test_baselines_are_counted_by_what_they_take() -> None:
    search = {**SEARCH, "baselines": ["svd", "eva", "adalora"]}
    work = whole_study(study_config(search=search), SPACE, task())
    truncations = 10 + 1  # ten come with the space, one more when the choice is made
    assert (work.eva, work.adalora, work.scored) == (
        3,
        3,
        truncations + 1,
    )  # eva and adalora: a rank of the ladder each
    assert work.trials == 8 + 1 + truncations + 3 + 3
    assert work.planned("trained") == 8 + 1 - 1  # with the large training, and without rank 0 everywhere


def test_a_small_space_has_no_more_maps_than_it_holds() -> None:
    search = {"trials": 1000, "repeats": 2}
    assert whole_study(study_config(search=search), SPACE, task()).trials == 4**4 + 2


@pytest.mark.parametrize(("ladder", "head", "scored"), [((1, 2), (), 0), ((0, 2), ("classifier",), 0), ((0, 2), (), 1)])
def test_rank_0_everywhere_is_scored_alone_where_nothing_is_trained(ladder, head, scored) -> None:
    work = whole_study(study_config(search=SEARCH), replace(SPACE, ladder=ladder), task(head))
    assert (work.scored, work.head) == (scored, bool(head))
