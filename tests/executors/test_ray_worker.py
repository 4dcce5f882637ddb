"""A worker in this process, with a connection that remembers what is sent."""

import math
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from rank_search.core.errors import OutOfService
from rank_search.core.job import FineTuned, Job, Stopped
from rank_search.executors import ray_worker
from rank_search.executors.payload import FolderPayload
from rank_search.executors.ray_worker import Assignment, Worker, _ThrottledReporter
from tests.classifier import config
from tests.jobs import job_for


class Connection:
    def __init__(self, kept=None) -> None:
        self.reports: list[tuple[int, float, bytes | None]] = []
        self.questions: list[tuple[int, dict[int, float]]] = []
        self._kept = kept

    def report(self, steps, loss, checkpoint=None) -> None:
        self.reports.append((steps, loss, checkpoint))

    def ask(self, steps, scores) -> set[int]:
        self.questions.append((steps, dict(scores)))
        return {*scores} if self._kept is None else self._kept


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
        worker.train(jobs(loaded[1], 1), (), Connection(), {}, None)
    worker.check_packs()
    assert len(worker.loads) == 1


def test_driver_is_asked_at_rungs_and_decides(worker, loaded) -> None:
    connection = Connection(kept={1})
    stopped, finished = worker.train(jobs(loaded[1], 1, 2), (3, 6), connection, {}, None)
    assert isinstance(stopped, Stopped)
    assert isinstance(finished, FineTuned)
    assert [(steps, {*scores}) for steps, scores in connection.questions] == [(3, {0, 1}), (6, {1})]


def test_adapters_of_the_driver_are_written_once_and_truncated(worker, loaded, tmp_path) -> None:
    """The driver's path means nothing here."""
    (large,) = worker.train(jobs(loaded[1], 2), (), Connection(), {}, None)
    large.save_adapter(tmp_path / "trial-7")
    payload = FolderPayload.from_folder(tmp_path / "trial-7")
    elsewhere = tmp_path / "of-the-driver" / "trial-7"
    given = jobs(loaded[1], 2, recipe="truncate", source=elsewhere)
    (same,) = worker.train(given, (), Connection(), {str(elsewhere): payload}, None)
    assert same.losses == ()
    assert same.evaluation.score == pytest.approx(large.evaluation.score, abs=1e-5)
    assert worker.evaluate(payload, "validation").score == pytest.approx(large.evaluation.score, abs=1e-5)
    assert worker.evaluate(None, "validation").score == loaded[0].evaluate("validation")[0].score


def test_super_adapter_travels_as_the_content_of_its_file(worker, loaded) -> None:
    connection = Connection()
    content = worker.train_supernet(0, 0, connection, None)
    assert content == worker.train_supernet(0, 0, Connection(), content)  # it is trained already
    assert len(worker.score_supernet([loaded[1].uniform(rank) for rank in (1, 4)], content)) == 2
    (warm,) = worker.train(jobs(loaded[1], 4, recipe="warm"), (), Connection(), {}, content)
    (cold,) = worker.train(jobs(loaded[1], 4), (), Connection(), {}, None)
    assert warm.losses[0] != pytest.approx(cold.losses[0], rel=1e-5)
    steps, loss, checkpoint = connection.reports[0]
    assert steps == 1
    assert math.isnan(loss)
    assert checkpoint is None


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


def test_reports_come_once_a_second_with_a_file_that_has_changed(tmp_path, monkeypatch) -> None:
    clock, file = [100.0], tmp_path / "nested.safetensors"
    monkeypatch.setattr(ray_worker.time, "monotonic", lambda: clock[0])
    file.write_bytes(b"old")
    connection = Connection()
    reporter = _ThrottledReporter(connection, file)

    def step(number: int, at: float, content: bytes | None = None) -> None:
        clock[0] = at
        if content is not None:
            file.write_bytes(content)
            os.utime(file, ns=(0, number))
        reporter(number, 0.5)

    step(1, 100.0)
    step(2, 100.9, b"new")
    step(3, 101.0)
    step(4, 102.5)
    step(5, 103.5, b"newer")
    assert connection.reports == [(1, 0.5, None), (3, 0.5, b"new"), (4, 0.5, None), (5, 0.5, b"newer")]
