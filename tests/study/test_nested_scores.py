"""Nested scores: a study of their own beside the main one."""

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from rank_search.study.handle import Study
from rank_search.study.nested_scores import NestedScores


@pytest.fixture
def scores() -> NestedScores:
    study = optuna.create_study(directions=["maximize", "minimize"])
    for state in (TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING):
        study.add_trial(create_trial(state=state, values=[0.5, 10] if state == TrialState.COMPLETE else None))
    return NestedScores(study)


def test_they_stand_beside_their_study_and_are_found_again(bench) -> None:
    study = bench.open()
    scores = NestedScores.beside(study)
    scores.keep_seconds("training_seconds", 2.5)
    scores.optuna_study.add_trial(create_trial(values=[0.5, 10]))
    assert NestedScores.beside(study).cost == {"evaluations": 1, "training_seconds": 2.5}
    assert study.trials() == []
    assert Study.open(str(bench.folder.path)).name == "small", "they are no study that a user can open"


def test_map_whose_score_is_not_finite_was_looked_at_but_has_none(scores) -> None:
    assert [trial.number for trial in scores.complete] == [0]
    assert scores.finished == 2


def test_seconds_are_kept_by_name(scores) -> None:
    assert scores.cost == {"evaluations": 2}
    assert scores.seconds("training_seconds") == 0.0
    scores.keep_seconds("training_seconds", 1.0)
    scores.keep_seconds("training_seconds", 1.5)
    scores.keep_seconds("scoring_seconds", 0.5)
    assert (scores.seconds("training_seconds"), scores.seconds("scoring_seconds")) == (1.5, 0.5)
    assert scores.cost == {"evaluations": 2, "training_seconds": 1.5, "scoring_seconds": 0.5}
