"""What every storage promises to a study."""

import threading
import time
from collections import Counter

import pytest
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.trial import Trial, TrialState

from rank_search.core.errors import OutOfService
from rank_search.search import loop
from rank_search.study import faults
from rank_search.study.folder import StudyFolder
from rank_search.study.handle import Study
from rank_search.study.leases import Leases
from rank_search.study.lock import ExclusiveLock
from rank_search.study.metadata import StudyMetadata
from rank_search.study.storage import create_study, find_study
from tests.bench import SPACE, Bench, Landscape, metadata, recorded
from tests.processes import CONTEXT
from tests.search.test_loop import Killed, forget_lease

pytestmark = pytest.mark.slow


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request, tmp_path) -> str:
    return f"sqlite:///{tmp_path}/own.db" if request.param == "sqlite" else request.getfixturevalue("database")


def outcomes(study) -> list:
    return [(trial.number, trial.params, trial.values, trial.state) for trial in study.trials]


def test_study_comes_back_as_it_was(bench, storage) -> None:
    assert find_study(bench.folder, storage) is None
    study = bench.search(8, storage=storage)
    again = Study.find(bench.folder, storage)
    assert outcomes(again.optuna_study) == outcomes(study)
    assert again.metadata == metadata()
    assert [trial.user_attrs for trial in again.optuna_study.trials] == [trial.user_attrs for trial in study.trials]


def test_study_is_the_same_in_any_storage(bench, storage, tmp_path) -> None:
    (tmp_path / "other").mkdir()
    assert outcomes(bench.search(9, storage=storage)) == outcomes(Bench(StudyFolder(tmp_path / "other")).search(9))


def test_goes_on_where_a_killed_driver_ended(bench, storage, tmp_path) -> None:
    (tmp_path / "whole").mkdir()
    expected = Bench(StudyFolder(tmp_path / "whole")).search(10)
    for trials in (1, 5):
        with pytest.raises(Killed):
            bench.search(10, Landscape({trials: Killed()}), storage=storage)
        forget_lease(create_study(bench.folder, storage))
    assert outcomes(bench.search(10, storage=storage)) == outcomes(expected)


def test_trial_that_another_took_over_is_not_outcomes(bench, storage) -> None:
    """A driver that was silent for too long comes back when its trial is at work, or told, elsewhere."""

    class Silent(Landscape):
        def train_one(self, job):
            study = create_study(bench.folder, storage)
            trial = Trial(study, study.trials[job.number]._trial_id)
            if job.number == 1:
                Leases(ExclusiveLock(storage, study.study_name)).acquire(trial)
                recorded(bench.handle(storage=storage), 1, 123.0)
            return super().train_one(job)

    study = bench.search(6, Silent(), storage=storage)
    assert study.trials[1].values[0] == 123.0
    assert "score_se" not in study.trials[1].user_attrs
    assert not (bench.folder.path / "results" / "0001.json").exists()
    assert len(study.trials) == 6


def test_storage_that_comes_back_costs_nothing(bench, storage, monkeypatch) -> None:
    """Every tenth thing that is asked of it fails, before it is done or after."""
    monkeypatch.setattr(faults, "_FIRST_WAIT", 0.01)
    (bench.folder.path.parent / "whole").mkdir()
    expected = Bench(StudyFolder(bench.folder.path.parent / "whole")).search(10)
    asked = Counter()

    def flaky(cls, name):
        method = getattr(cls, name)

        def call(self, *arguments, **options):
            asked[name] += 1
            away = sqlalchemy.exc.OperationalError("SELECT 1", {}, ConnectionError("server closed the connection"))
            if asked[name] % 10 == 3:
                raise StorageInternalError from away
            found = method(self, *arguments, **options)
            if asked[name] % 10 == 7:
                raise StorageInternalError from away
            return found

        monkeypatch.setattr(cls, name, call)

    study = create_study(bench.folder, storage)
    for name in ("create_new_trial", "set_trial_user_attr", "set_trial_state_values", "set_trial_param"):
        flaky(type(study._storage), name)
    bench.search(10, storage=storage)
    monkeypatch.undo()
    assert min(asked.values()) > 10
    found = create_study(bench.folder, storage)
    assert [trial.user_attrs.get("reason") for trial in found.trials] == [None] * 10
    assert {trial.state for trial in found.trials} == {TrialState.COMPLETE}
    assert sorted(str(trial.params) for trial in found.trials[:4]) == sorted(
        str(trial.params) for trial in expected.trials[:4]
    )
    assert len({str(trial.params) for trial in found.trials}) == 10


def test_storage_that_stays_away_stops_the_run_without_a_trace_of_its_address(bench, server, database, monkeypatch):
    monkeypatch.setattr(faults, "PATIENCE", 1.0)

    class Cut(Landscape):
        def train_one(self, job):
            if job.number == 3:
                server.stop()
            return super().train_one(job)

    with pytest.raises(OutOfService, match=r"the storage has been out of reach .* run the same command") as stopped:
        bench.search(8, Cut(), storage=database)
    server.start()
    assert "s3cret" not in str(stopped.value)
    assert stopped.value.__cause__ is None
    study = create_study(bench.folder, database)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 3 + [TrialState.RUNNING]
    forget_lease(study)
    assert {trial.state for trial in bench.search(8, storage=database).trials} == {TrialState.COMPLETE}


def test_server_that_restarts_is_waited_for(bench, server, database) -> None:
    class Restarts(Landscape):
        def train_one(self, job):
            if job.number in {2, 5}:
                server.kill()
                threading.Timer(1.0, server.start).start()
            return super().train_one(job)

    study = bench.search(8, Restarts(), storage=database)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 8


def _drive(folder, storage, trials, gate) -> None:
    class Slow(Landscape):
        def train_one(self, job):
            time.sleep(0.2)
            return super().train_one(job)

    loop._POLL = 0.1
    gate.wait()
    Bench(folder).search(trials, Slow(), storage=storage, baselines=["svd"], repeats=8)


def test_drivers_share_a_study_and_begin_it_together(bench, database) -> None:
    """None of them knows of the others but by the storage; the tables are not there yet."""
    gate = CONTEXT.Barrier(3)
    drivers = [CONTEXT.Process(target=_drive, args=(bench.folder, database, 40, gate)) for _ in range(3)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join(300)
    assert [driver.exitcode for driver in drivers] == [0, 0, 0]
    study = Study.find(bench.folder, database)
    assert study.space == SPACE
    trials = study.optuna_study.trials
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    first = [trial for trial in trials if trial.params and not trial.user_attrs.get("batch_order")]
    assert len(first) == 32
    assert len({str(sorted(trial.params.items())) for trial in first}) == 32
    assert sum(bool(trial.user_attrs.get("batch_order")) for trial in trials) == 8
    assert len({trial.user_attrs["lease"]["driver"] for trial in trials}) > 1
    rivals = [trial.rival for trial in study.trials() if trial.rival and not trial.attributes.batch_order]
    assert len(rivals) == len({*rivals}) > 0
    assert {trial.user_attrs["attempts"] for trial in trials} == {1}


def test_record_is_that_of_the_driver_that_came_first(bench, storage) -> None:
    study = create_study(bench.folder, storage)
    metadata().write(study)
    assert StudyMetadata.read(create_study(bench.folder, storage)) == metadata()
