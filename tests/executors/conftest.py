"""The small classifier, loaded here; and Ray on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rank_search.core.space import Space
from rank_search.executors.local import LocalExecutor
from rank_search.models.modules import build_space
from rank_search.tasks.base import Task
from rank_search.tasks.load import load_task
from tests.classifier import config


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

    from rank_search.executors.ray_cluster import _join

    _join(None)
    yield
    ray.shutdown()
