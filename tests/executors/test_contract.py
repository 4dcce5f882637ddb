"""What every executor promises, and what the workers of a cluster promise beside it."""

import dataclasses
import os
import signal
import threading
import time
from contextlib import suppress

import psutil
import pytest

from rank_search.core.errors import InputError, OutOfService, TrainingFailed
from rank_search.core.job import Died, FineTuned, Job, Rungs, Stopped, unheard
from rank_search.executors.payload import Parcel
from rank_search.executors.protocol import Pack, trained
from rank_search.executors.ray_cluster import RayExecutor
from rank_search.executors.ray_worker import Assignment
from tests.classifier import config


def on_ray(place, loaded, local, **changes) -> RayExecutor:
    study = config(place, **changes)
    assignment = Assignment(study, loaded[0].data_fingerprint, loaded[0].fingerprint, str(place), 1)
    return RayExecutor(study.executor, assignment, local)


@pytest.fixture
def ray_executor(place, loaded, local, cluster):
    executor = on_ray(place, loaded, local)
    yield executor
    executor.close()


@pytest.fixture(params=["local", "ray"])
def executor(request, local):
    return local if request.param == "local" else request.getfixturevalue("ray_executor")


def pack(space, *ranks, on_step=unheard, rungs=None, **options) -> Pack:
    jobs = [Job(space.uniform(rank), seed=k, data_seed=0, number=k, **options) for k, rank in enumerate(ranks)]
    return Pack(jobs, on_step, rungs or Rungs())


def all_of(executor, *packs):
    found = dict(trained(executor, packs))
    return [found[of] for of in packs]


def test_results_are_those_of_this_process(executor, local, loaded) -> None:
    """Worked out elsewhere they are the same, but for what other sums of floats come to."""
    one, other = pack(loaded[1], 1, 4), pack(loaded[1], 2)
    found = all_of(executor, one, other)
    expected = [local.train(of.jobs, of.on_step, of.rungs) for of in (one, other)]
    for outcomes, same in zip(found, expected, strict=True):
        for outcome, like in zip(outcomes, same, strict=True):
            assert isinstance(outcome, FineTuned)
            assert outcome.losses == pytest.approx(like.losses, rel=1e-4)
            assert outcome.evaluation.score == pytest.approx(like.evaluation.score, abs=0.1)
            assert outcome.seconds > 0


def test_adapters_can_be_saved_here_scored_and_cut(executor, loaded, tmp_path) -> None:
    ((outcome,),) = all_of(executor, pack(loaded[1], 2))
    outcome.save_adapter(tmp_path / "adapter")
    again = executor.evaluate(tmp_path / "adapter", "validation")
    assert again.score == pytest.approx(outcome.evaluation.score, abs=1e-6)
    assert executor.evaluate(None, "test").metric == outcome.evaluation.metric
    assert all(sigmas for sigmas in executor.spectrum(tmp_path / "adapter").values())
    ((cut,),) = all_of(executor, pack(loaded[1], 1, recipe="truncated", source=tmp_path / "adapter"))
    assert cut.losses == ()
    assert set(cut.rank_map.ranks.values()) == {1}


def test_room_is_taken_by_packs_and_given_back(executor, loaded) -> None:
    room = executor.room
    assert room >= 1
    executor.begin(pack(loaded[1], 1))
    assert executor.room == room - 1
    done = []
    while not done:
        done = executor.finish()
    assert executor.room == room


def test_map_that_can_not_be_trained_fails_alone(executor, loaded) -> None:
    """A rank that no module of this model has."""
    wrong = dataclasses.replace(loaded[1].uniform(1), ranks={"no.such.module": 1})
    good = pack(loaded[1], 1)
    bad = Pack([good.jobs[0], dataclasses.replace(good.jobs[0], rank_map=wrong, number=1)])
    ((fine, failed),) = all_of(executor, bad)
    assert isinstance(fine, FineTuned)
    assert isinstance(failed, TrainingFailed)
    assert failed.kind == "error"
    assert "has no attribute `no`" in str(failed)


def test_who_goes_on_at_a_rung_is_the_drivers_to_say(executor, loaded) -> None:
    """And it is asked in its own thread, so that it can look into its study."""
    asked = []

    def keep(steps, scores):
        asked.append((steps, {*scores}, threading.current_thread()))
        return {*scores} - {0}

    ((stopped, finished),) = all_of(executor, pack(loaded[1], 1, 2, rungs=Rungs((3, 6), keep)))
    assert isinstance(stopped, Stopped)
    assert list(stopped.rungs) == [3]
    assert isinstance(finished, FineTuned)
    assert list(finished.rungs) == [3, 6]
    assert asked == [(3, {0, 1}, threading.main_thread()), (6, {1}, threading.main_thread())]


def test_steps_are_told(executor, loaded) -> None:
    told: list[tuple[int, float]] = []
    # The rung keeps the training until the driver has read its mail; what comes last may go unheard.
    all_of(executor, pack(loaded[1], 1, on_step=lambda *step: told.append(step), rungs=Rungs((6,))))
    steps, losses = zip(*told, strict=True)
    assert list(steps) == sorted(steps)
    assert steps[-1] <= 9
    assert all(0 < loss < 10 for loss in losses)


def test_what_no_trial_can_help_stops_the_run(executor, place, loaded, local, monkeypatch, request) -> None:
    """Here a full disk, where an adapter is to be put; there a base model that is gone."""
    if executor is local:
        full = OSError(28, "No space left on device", "/full")
        monkeypatch.setattr(local, "_made", lambda *_: (_ for _ in ()).throw(full))
        broken = local
    else:
        broken = on_ray(place, loaded, local, model={"source": str(place / "gone")})
    with pytest.raises(OutOfService, match=r"disk is full|can't load"):
        all_of(broken, pack(loaded[1], 1))
    broken.close()


def test_warm_jobs_start_from_the_super_adapter(executor, loaded, tmp_path) -> None:
    steps = []
    nested = executor.nested(tmp_path / "nested.safetensors")
    nested.train(0, 0, lambda done, of: steps.append((done, of)))
    assert steps[-1][1] == 9
    scores = nested.score([loaded[1].uniform(rank) for rank in (0, 4)])
    assert all(0 <= score <= 1 for score in scores)
    assert set(nested.energies()) == set(loaded[1].shapes)
    before = (tmp_path / "nested.safetensors").read_bytes()
    nested.train(0, 0, lambda *_: pytest.fail("it is trained already"))
    assert (tmp_path / "nested.safetensors").read_bytes() == before
    ((fresh,), (warm,)) = all_of(executor, pack(loaded[1], 4), pack(loaded[1], 4, recipe="warm"))
    assert fresh.losses != pytest.approx(warm.losses, rel=1e-5)


def workers() -> list[psutil.Process]:
    """Of the cluster that these tests have started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if (process.cmdline() or [""])[0].startswith("ray::Worker"):
                found.append(process)
    return found


def test_pack_of_a_killed_worker_is_given_back_and_another_takes_it(ray_executor, loaded) -> None:
    slow = pack(loaded[1], 1, rungs=Rungs((3,), lambda _steps, scores: time.sleep(1) or {*scores}))
    before = workers()
    ray_executor.begin(slow)
    deadline = time.monotonic() + 60
    while not (found := [of for of in workers() if of not in before]) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in found:
        process.send_signal(signal.SIGKILL)
    done = []
    while not done:
        done = ray_executor.finish()
    assert done == [(slow, [Died()])]
    ((outcome,),) = all_of(ray_executor, slow)
    assert isinstance(outcome, FineTuned)


def test_two_workers_train_at_once_and_load_once(ray_executor, loaded) -> None:
    def ends(*ranks):
        list(trained(ray_executor, [pack(loaded[1], rank) for rank in ranks]))
        return {of.pid for of in workers()}

    first = ends(1, 2)
    assert len(first) == 2
    assert ends(1, 2, 4) == first


def test_worker_with_other_data_is_refused(place, loaded, local, cluster) -> None:
    assignment = Assignment(config(place), "other", loaded[0].fingerprint, str(place), 1)
    executor = RayExecutor(config(place).executor, assignment, local)
    with pytest.raises(OutOfService, match="other data or another base model"):
        all_of(executor, pack(loaded[1], 1))
    executor.close()


def test_room_is_what_the_cluster_has(place, loaded, local, cluster) -> None:
    cores = os.cpu_count() or 1
    alone = on_ray(place, loaded, local, executor={"kind": "ray", "workers": None, "resources": {"CPU": cores}})
    assert alone.room == 1
    halves = on_ray(place, loaded, local, executor={"kind": "ray", "workers": None, "resources": {"cpu": 0.5}})
    assert halves.room == 2 * cores
    none = on_ray(place, loaded, local, executor={"kind": "ray", "workers": None, "resources": {"gpu": 1}})
    assert none.room == 0
    for executor in (alone, halves, none):
        executor.close()


def test_cluster_that_is_not_there_is_told(monkeypatch, place, loaded, local) -> None:
    import ray

    from rank_search.executors.ray_cluster import _join

    monkeypatch.setattr(ray, "init", lambda **_: (_ for _ in ()).throw(ConnectionError("no\n cluster")))
    with pytest.raises(InputError, match=r"executor.address: can't join the Ray cluster 'auto': no cluster"):
        _join("auto")


def test_parcel_brings_the_files_back(tmp_path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(b"1")
    (tmp_path / "a" / "b" / "two").write_bytes(b"2")
    Parcel.of(tmp_path / "a").write(tmp_path / "c")
    assert Parcel.of(tmp_path / "c") == Parcel.of(tmp_path / "a")
