"""Rows of tables as the trials that analysis, report and export work on."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rank_search.analysis.trials import ScoredTrial, complete, in_space, scored
from rank_search.core.candidate import Candidate
from rank_search.core.ranks import RankMap
from tests.analysis.conftest import maps, table

TRIAL = ScoredTrial(3, "search", 0.5, 0.1, 60, {"a": 2, "b": 0, "c": 4}, {"alpha": 8.0}, 1.0)
STATES = st.sampled_from(["COMPLETE", "FAIL", "PRUNED", "RUNNING", "WAITING"])


@settings(max_examples=30)
@given(st.lists(STATES, max_size=8))
def test_only_complete_trials_are_scored(states) -> None:
    trials = table(*[(0.5, 10)] * len(states), states=states)
    expected = [number for number, state in enumerate(states) if state == "COMPLETE"]
    assert complete(trials)["number"].tolist() == expected
    assert list(scored(trials)) == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("search", True),
        ("baseline:uniform", True),
        ("baseline:svd", False),
        ("baseline:eva", False),
        ("baseline:adalora", False),
    ],
)
def test_rivals_outside_the_space_are_left_out_of_it(kind, expected) -> None:
    assert (0 in in_space(table((0.5, 10), kinds=[kind]))["number"].tolist()) is expected


def test_a_row_becomes_a_trial_under_its_number_wherever_it_stands() -> None:
    trials = table((0.5, 10), (0.7, 20)).iloc[::-1].reset_index(drop=True)
    found = scored(trials)
    assert list(found) == [1, 0]
    assert replace(found[1], front_probability=0.0) == ScoredTrial(
        1, "search", 0.7, 0.01, 20, {"w": 2}, {}, 1.0, 1, 0.0, {"w": 2}, "scratch", None
    )


def test_numbers_are_those_of_python_which_json_can_write() -> None:
    (trial,) = scored(table((0.5, 10))).values()
    assert [type(value) for value in (trial.number, trial.trainable_parameters, trial.score)] == [int, int, float]


def test_a_single_training_has_one_seed_and_no_known_place_on_the_front() -> None:
    (trial,) = scored(table((0.5, 10))).values()
    assert trial.seeds == 1
    assert math.isnan(trial.front_probability)


def test_a_map_brings_its_trainings_and_its_place_on_the_front() -> None:
    rows = maps((0.5, 10)).assign(seeds=3, front_probability=0.25)
    (trial,) = scored(rows).values()
    assert (trial.seeds, trial.front_probability) == (3, 0.25)


def test_a_fresh_training_takes_ranks_and_settings_and_starts_from_scratch() -> None:
    """So does that of a truncation: the verdict compares rank maps, not how their weights came about."""
    expected = Candidate(RankMap({"a": 2, "b": 0, "c": 4}), {"alpha": 8.0}, "scratch")
    for trial in (TRIAL, replace(TRIAL, number=9, kind="baseline:svd", seeds=4)):
        assert trial.fresh == expected
        assert trial.fresh.key == expected.key
    assert replace(TRIAL, settings={}).fresh.key != expected.key


@pytest.mark.parametrize(("ranks", "expected"), [({"a": 2, "b": 0, "c": 4}, 4), ({"a": 0, "b": 0}, 0), ({"a": 3}, 3)])
def test_top_rank_is_the_highest(ranks, expected) -> None:
    assert replace(TRIAL, ranks=ranks).top_rank == expected
