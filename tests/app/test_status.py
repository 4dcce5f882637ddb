from rank_search.app.status import study_status
from rank_search.core.errors import TrainingFailed
from tests.bench import Landscape


def test_trials_failures_and_front_are_those_of_the_study(bench) -> None:
    wrong = {1: TrainingFailed("boom"), 3: TrainingFailed("boom"), 4: TrainingFailed("no memory", "out of memory")}
    study = bench.search(8, Landscape(wrong))
    status = study_status(bench.handle())
    assert (status.study, status.state) == ("small", "idle")
    assert status.trials == {"COMPLETE": 5, "FAIL": 3}
    assert status.failures == {"boom": 2, "no memory": 1}
    assert status.failure_kinds == {"error": 2, "out of memory": 1}
    assert {trial.number for trial in status.front} == {trial.number for trial in study.best_trials}
    costs = [trial.trainable_parameters for trial in status.front]
    assert costs == sorted(costs)
    assert status.hypervolume > 0
