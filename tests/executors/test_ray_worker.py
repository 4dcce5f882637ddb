"""A worker in this process, with a connection that remembers what is sent."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from rank_search.core.errors import OutOfService
from rank_search.core.job import Job
from rank_search.executors import ray_worker
from rank_search.executors.payload import FolderPayload
from rank_search.executors.ray_worker import Assignment, Worker, _ThrottledReporter
from tests.classifier import config
from tests.jobs import job_for


class Connection:
    def __init__(self) -> None:
        self.reports: list[tuple[int, float]] = []

    def report(self, steps, loss) -> None:
        self.reports.append((steps, loss))


@pytest.fixture
def assignment(place, loaded) -> Assignment:
    return Assignment(config(place), loaded[1], loaded[0].data_fingerprint, loaded[0].fingerprint, str(place), None)


@pytest.fixture
def worker(assignment, loaded, monkeypatch) -> Iterator[Worker]:
    """It loads nothing again, and leaves the working folder of the tests alone."""
    loads = []
    monkeypatch.setattr("rank_search.tasks.load.load_task", lambda given: loads.append(given) or loaded[0])
    monkeypatch.setattr(ray_worker.os, "chdir", lambda _: None)
    made = Worker(assignment)
    made.loads = loads
    yield made
    made._files.cleanup()


def jobs(space, *ranks, **options) -> list[Job]:
    return [job_for(space.uniform(rank), seed=k, data_seed=0, number=k, **options) for k, rank in enumerate(ranks)]


def test_model_is_loaded_once_and_only_when_it_is_needed(worker, loaded) -> None:
    assert worker.loads == []
    for _ in range(2):
        worker.train(jobs(loaded[1], 1), Connection(), {})
    worker.check_packs()
    assert len(worker.loads) == 1


def test_adapters_of_the_driver_are_written_once_and_truncated(worker, loaded, tmp_path) -> None:
    """The driver's path means nothing here."""
    (large,) = worker.train(jobs(loaded[1], 2), Connection(), {})
    large.save_adapter(tmp_path / "trial-7")
    payload = FolderPayload.from_folder(tmp_path / "trial-7")
    elsewhere = tmp_path / "of-the-driver" / "trial-7"
    given = jobs(loaded[1], 2, recipe="truncate", source=elsewhere)
    (same,) = worker.train(given, Connection(), {str(elsewhere): payload})
    assert same.losses == ()
    assert same.evaluation.score == pytest.approx(large.evaluation.score, abs=1e-5)
    assert worker.evaluate(payload, "validation").score == pytest.approx(large.evaluation.score, abs=1e-5)
    assert worker.evaluate(None, "validation").score == loaded[0].evaluate("validation")[0].score


def test_files_that_differ_from_the_drivers_are_refused(worker, assignment) -> None:
    for changed in ({"data_fingerprint": "other"}, {"model_fingerprint": "other"}):
        worker._assignment = replace(assignment, **changed)
        with pytest.raises(OutOfService, match="other data or another base model than the driver; fix its files"):
            worker.check_packs()


def test_what_can_not_be_loaded_stops_the_run_in_one_line(worker, monkeypatch) -> None:
    def gone(_):
        raise FileNotFoundError("no\n  such model")

    monkeypatch.setattr("rank_search.tasks.load.load_task", gone)
    with pytest.raises(OutOfService, match="can't load what the study needs: FileNotFoundError: no such model"):
        worker.check_packs()


def test_worker_goes_to_the_drivers_folder_and_takes_its_threads(worker, assignment, place, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(ray_worker.os, "chdir", lambda folder: calls.append(("chdir", folder)))
    monkeypatch.setattr("torch.set_num_threads", lambda threads: calls.append(("threads", threads)))
    worker._assignment = replace(assignment, threads=3)
    worker.check_packs()
    assert calls == [("threads", 3), ("chdir", str(place))]


def test_reports_come_once_a_second(monkeypatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(ray_worker.time, "monotonic", lambda: clock[0])
    connection = Connection()
    reporter = _ThrottledReporter(connection)
    for number, moment in enumerate((100.0, 100.9, 101.0, 102.5), start=1):
        clock[0] = moment
        reporter(number, 0.5)
    assert connection.reports == [(1, 0.5), (3, 0.5), (4, 0.5)]
