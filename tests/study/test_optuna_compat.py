"""Optuna's private interface, as far as we need it. Seen to work in 5.0.0; what fails here broke in a later version."""

import optuna
import pytest
from optuna.samplers import GPSampler, NSGAIISampler, TPESampler
from optuna.trial import TrialState

from rank_search.study.optuna_compat import StudyView, reopened, stored


def test_trial_is_read_as_another_handle_left_it(tmp_path) -> None:
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/study.db")
    trial = study.ask()
    again = reopened(study, study.trials[0])
    again.set_user_attr("x", 1)
    assert "x" not in trial.user_attrs
    assert stored(trial).user_attrs == {"x": 1}


def test_reopened_trial_can_be_worked_on_and_told() -> None:
    study = optuna.create_study()
    study.ask()
    trial = reopened(study, study.trials[0])
    assert trial.suggest_int("a", 0, 3) in range(4)
    study.tell(trial, 1.0)
    assert study.trials[0].state == TrialState.COMPLETE


@pytest.mark.parametrize("sampler", [TPESampler(seed=0), GPSampler(seed=0), NSGAIISampler(seed=0)])
def test_samplers_see_only_the_trials_of_a_view(sampler) -> None:
    """They read trials by `get_trials` or by the private `_get_trials`: both are filtered."""
    study = optuna.create_study(directions=["maximize", "minimize"])
    distribution = optuna.distributions.IntDistribution(0, 9)
    for number in range(12):
        params = {"a": number % 10} if number % 2 else {}
        distributions = {"a": distribution} if params else {}
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, values=[0.1 * number, number]))
    view = StudyView(study, lambda trial: bool(trial.params) or trial.state == TrialState.RUNNING)
    assert [trial.number for trial in view.get_trials()] == [1, 3, 5, 7, 9, 11]
    assert view._get_trials() == view.get_trials()
    assert view.directions == study.directions
    study.ask()
    asked_for = study.trials[-1]
    assert sampler.sample_relative(view, asked_for, {"a": distribution}).keys() <= {"a"}
