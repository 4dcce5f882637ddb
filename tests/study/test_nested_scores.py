"""Nested scores: a study of their own beside the main one."""

import optuna
import pytest
from optuna.distributions import IntDistribution
from optuna.trial import TrialState, create_trial

from rank_search.core.errors import InputError
from rank_search.study.handle import Study
from rank_search.study.nested_scores import NestedScores
from rank_search.study.storage import BESIDE, create_study


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


def test_study_of_another_program_that_has_their_name_is_refused(bench) -> None:
    study = bench.open()
    theirs = create_study(bench.folder, None, BESIDE)
    theirs.add_trial(create_trial(values=[0.5, 10], params={"x": 1}, distributions={"x": IntDistribution(0, 3)}))
    with pytest.raises(InputError, match=r"^STUDY: the study 'small/nested' in this storage is another program's"):
        NestedScores.beside(study)


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
