"""What the workers of a cluster promise beside what every executor does."""

import os
import signal
from contextlib import suppress
from types import SimpleNamespace

import psutil
import pytest
import ray
from ray.exceptions import WorkerCrashedError

from rank_search.core.errors import InputError, OutOfService
from rank_search.core.job import Died, FineTuned
from rank_search.executors.protocol import train_packs
from rank_search.executors.ray_cluster import RayExecutor
from rank_search.executors.ray_worker import Assignment
from tests.classifier import config
from tests.executors.conftest import all_of, on_ray, pack
from tests.waiting import wait_until


def workers() -> list[psutil.Process]:
    """Of the cluster that these tests have started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if (process.cmdline() or [""])[0].startswith("ray::Worker"):
                found.append(process)
    return found


def test_pack_of_a_killed_worker_is_given_back_and_another_takes_it(ray_executor, loaded) -> None:
    endless = pack(loaded[1], 1, settings={"steps": 1_000_000})
    before = workers()
    ray_executor.submit(endless)
    wait_until(lambda: len(workers()) > len(before))
    for process in {*workers()} - {*before}:
        process.send_signal(signal.SIGKILL)
    done = []
    while not done:
        done = ray_executor.wait()
    assert done == [(endless, [Died()])]
    ((outcome,),) = all_of(ray_executor, pack(loaded[1], 1))
    assert isinstance(outcome, FineTuned)


def test_two_workers_train_at_once_and_load_once(ray_executor, loaded) -> None:
    def ends(*ranks):
        list(train_packs(ray_executor, [pack(loaded[1], rank) for rank in ranks]))
        return {process.pid for process in workers()}

    first = ends(1, 2)
    assert len(first) == 2
    assert ends(1, 2, 4) == first


def test_worker_with_other_data_is_refused(place, loaded, local, cluster) -> None:
    assignment = Assignment(config(place), loaded[1], "other", loaded[0].fingerprint, str(place), 1)
    executor = RayExecutor(config(place).executor, assignment, local)
    with pytest.raises(OutOfService, match="other data or another base model"):
        all_of(executor, pack(loaded[1], 1))
    executor.close()


def test_room_is_what_the_cluster_has(place, loaded, local, cluster) -> None:
    cores = os.cpu_count() or 1
    alone = on_ray(place, loaded, local, executor={"kind": "ray", "workers": None, "resources": {"CPU": cores}})
    assert alone.free_slots == 1
    halves = on_ray(place, loaded, local, executor={"kind": "ray", "workers": None, "resources": {"cpu": 0.5}})
    assert halves.free_slots == 2 * cores
    none = on_ray(place, loaded, local, executor={"kind": "ray", "workers": None, "resources": {"gpu": 1}})
    assert none.free_slots == 0
    for executor in (alone, halves, none):
        executor.close()


def test_call_that_no_node_can_serve_says_what_to_lower(place, loaded, local, cluster) -> None:
    """Else the driver would wait for ever."""
    executor = on_ray(place, loaded, local, executor={"kind": "ray", "workers": None, "resources": {"gpu": 99}})
    with pytest.raises(InputError, match=r"executor\.resources: no machine of the cluster has .*'gpu': 99"):
        executor.check_packs()
    executor.close()


class Method:
    """A worker's method that is done at once."""

    def __init__(self, calls: list[None]) -> None:
        self._calls = calls

    def remote(self):
        self._calls.append(None)
        return ray.put(None)


def test_call_is_tried_on_three_workers(ray_executor, monkeypatch) -> None:
    def dead(_reference):
        raise WorkerCrashedError

    started, calls, killed = [], [], []

    def new_worker():
        started.append(SimpleNamespace(check_packs=Method(calls)))
        return started[-1]

    monkeypatch.setattr(ray_executor, "_new_worker", new_worker)
    with monkeypatch.context() as patched:
        patched.setattr(ray, "get", dead)
        patched.setattr(ray, "kill", killed.append)
        with pytest.raises(OutOfService, match="3 workers died one after another; see Ray's logs"):
            ray_executor.check_packs()
    assert len(calls) == 3
    assert killed == started
