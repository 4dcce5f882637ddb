"""The small classifier, loaded here; and Ray on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rank_search.core.job import no_callback
from rank_search.core.space import Space
from rank_search.executors.local import LocalExecutor
from rank_search.executors.protocol import Pack, train_packs
from rank_search.executors.ray_cluster import RayExecutor
from rank_search.executors.ray_worker import Assignment
from rank_search.models.modules import build_space
from rank_search.tasks.base import Task
from rank_search.tasks.load import load_task
from tests.classifier import config
from tests.jobs import job_for


@pytest.fixture(scope="session")
def loaded(place) -> tuple[Task, Space]:
    task = load_task(config(place))
    return task, build_space(task.backbone, config(place), task.head)


@pytest.fixture
def local(place, loaded) -> LocalExecutor:
    return LocalExecutor(config(place), *loaded)


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """Ray on this machine, for all tests."""
    import ray

    from rank_search.executors.ray_session import connect

    connect(None)
    yield
    ray.shutdown()


def on_ray(place, loaded, local, **changes) -> RayExecutor:
    """An executor on the tests' cluster."""
    study = config(place, **changes)
    assignment = Assignment(study, loaded[1], loaded[0].data_fingerprint, loaded[0].fingerprint, str(place), 1)
    return RayExecutor(study.executor, assignment, local)


@pytest.fixture
def ray_executor(place, loaded, local, cluster):
    executor = on_ray(place, loaded, local)
    yield executor
    executor.close()


def pack(space, *ranks, on_step=no_callback, **options) -> Pack:
    """Jobs of these ranks."""
    jobs = [job_for(space.uniform(rank), seed=k, data_seed=0, number=k, **options) for k, rank in enumerate(ranks)]
    return Pack(jobs, on_step)


def all_of(executor, *packs):
    """Outcomes of packs, in their order."""
    found = dict(train_packs(executor, packs))
    return [found[each] for each in packs]
