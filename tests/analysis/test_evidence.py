"""What is known of a study's maps when one of them is chosen."""

import pytest

from rank_search.analysis.evidence import study_evidence, trainings_of
from rank_search.analysis.maps import maps_table
from tests.analysis.conftest import SVD, TRIALS, UNIFORM, evidence, table


def test_trainings_are_by_candidate_and_order() -> None:
    trials = table((0.5, 10), (0.6, 20), (0.55, 10), (0.7, 15), kinds=["search", "search", "search", SVD])
    trials = trials.assign(candidate=["a", "b", "a", "c"], batch_order=[0, 0, 1, 0])
    assert trainings_of(trials, maps_table(trials)) == {0: {0: 0, 1: 2}, 1: {0: 1}, 3: {0: 3}}


def test_the_choice_is_tested_on_examples_that_the_search_never_saw() -> None:
    (test,) = evidence(TRIALS).tests
    assert test.front == [0, 5, 2, 4, 3]
    assert test.examples == "examples that the search never saw"


def test_without_such_examples_each_half_tests_the_front_of_the_other() -> None:
    found = evidence(TRIALS, selection=False, noise=0.5)
    first, second = found.tests
    assert (first.scores.half, second.scores.half) == (0, 1)
    assert first.front != second.front  # with so much noise each half has a front of its own
    assert second.front == [int(number) for number in found._front_of(found.searched.halves()[0])]


def test_gain_is_above_the_untrained_model_or_else_above_the_worst_uniform_map() -> None:
    assert evidence(TRIALS).gain == pytest.approx(0.22)
    kinds = [UNIFORM, UNIFORM, "search"]
    assert evidence(table((0.6, 10), (0.7, 20), (0.9, 30), kinds=kinds)).gain == pytest.approx(0.1)
    assert evidence(table((0.9, 30))).gain == 0.0


def test_evidence_of_a_study_is_read_from_its_folder(bench) -> None:
    bench.search(6)
    study = bench.handle()
    found = study_evidence(study)
    assert found.selected is None  # this study has no examples for the choice alone
    assert found.searched.of_trial(2).tolist() == list(study.example_scores(2))
    for number in found.maps["number"]:
        result = study.folder.read_result(int(number))
        study.folder.write_result(int(number), {**result, "selection": result["values"]})
    assert study_evidence(study).selected.of_trial(2).tolist() == list(study.example_scores(2))
