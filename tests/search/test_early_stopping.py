import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from rank_search.search.early_stopping import RungResult, best, going_on, rung_steps
from tests.bench import Landscape, table_of
from tests.search.test_loop import Killed, forget_lease

pytestmark = pytest.mark.slow

seen = st.builds(RungResult, st.floats(-5, 5), st.integers(0, 1000))


def dominates(one: RungResult, other: RungResult) -> bool:
    no_worse = one.score >= other.score and one.parameters <= other.parameters
    return no_worse and (one.score, one.parameters) != (other.score, other.parameters)


@given(st.dictionaries(st.integers(0, 99), seen, min_size=1, max_size=30))
def test_a_third_goes_on_and_nobody_whom_a_stopped_map_dominates(at_rung) -> None:
    kept = going_on(at_rung)
    assert len(kept) == math.ceil(len(at_rung) / 3)
    for number in kept:
        better = {other for other, of in at_rung.items() if dominates(of, at_rung[number])}
        assert better <= kept


def test_scores_that_are_not_finite_never_go_on() -> None:
    assert going_on({1: RungResult(math.nan, 1), 2: RungResult(math.inf, 1)}) == set()
    assert going_on({1: RungResult(math.nan, 1), 2: RungResult(0.1, 900)}) == {2}


def test_ties_go_by_contribution_to_the_hypervolume() -> None:
    """Three maps none of which dominates another; two of them are nearly the same."""
    points = np.array([[-0.9, 100.0], [-0.5, 10.0], [-0.5001, 10.1]])
    assert 0 in best(points, 2)


def test_rungs_are_a_ninth_and_a_third_of_the_steps() -> None:
    assert rung_steps(90) == [10, 30]
    assert rung_steps(9) == [1, 3]
    assert rung_steps(1) == []
    assert rung_steps(2) == [1]


def test_stopped_trials_are_pruned_with_their_rung_scores_kept(bench) -> None:
    study = bench.search(24, early_stopping=True)
    states = [trial.state for trial in study.trials]
    assert states[:4] == [TrialState.COMPLETE] * 4  # baselines are never stopped
    stopped = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    assert 8 <= len(stopped) < 20
    for trial in stopped:
        assert trial.user_attrs["rungs"].keys() in ({"1"}, {"1", "3"})
        assert bench.folder.read_result(trial.number) == {"losses": [1.0]}
    table = table_of(study)
    assert table["seconds"].notna().all()
    assert table["trainable_parameters"].notna().all()
    assert table[table["state"] == "PRUNED"]["score"].isna().all()
    assert study.best_trials


def test_study_with_stopped_trials_resumes_like_a_plain_one(bench, tmp_path) -> None:
    from tests.bench import Bench
    from tests.search.test_loop import _folder

    expected = bench.search(20, early_stopping=True, sampler="tpe")
    broken = Bench(_folder(tmp_path, "broken"))
    for kill in (2, 4, 1, 6):
        try:
            broken.search(20, Landscape({kill: Killed()}), early_stopping=True, sampler="tpe")
        except Killed:
            forget_lease(broken.study())
    resumed = broken.search(20, early_stopping=True, sampler="tpe")
    assert [(trial.params, trial.values, trial.state) for trial in resumed.trials] == [
        (trial.params, trial.values, trial.state) for trial in expected.trials
    ]
