"""Who trains, as the study file says; the executors themselves are tested in tests/executors/."""

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from rank_search.app.executors import for_driver, make_executor, pack_size
from rank_search.executors.local import LocalExecutor
from tests.bench import study_config


@pytest.mark.parametrize("quantization", ["none", "4bit"])
def test_a_local_study_is_loaded_as_it_is(quantization) -> None:
    config = study_config(model={"device": "cuda", "quantization": quantization})
    assert for_driver(config) is config


def test_the_driver_of_a_cluster_needs_no_device() -> None:
    config = study_config(executor={"kind": "ray"}, model={"device": "cuda", "revision": "main"})
    driver = for_driver(config)
    assert (driver.model.device, driver.model.revision, config.model.device) == ("cpu", "main", "cuda")
    changed = {"device": "cpu"}
    assert driver.model_dump() == {**config.model_dump(), "model": {**config.model.model_dump(), **changed}}


def test_4_bit_weights_need_the_device_on_the_driver_too() -> None:
    config = study_config(executor={"kind": "ray"}, model={"device": "cuda", "quantization": "4bit"})
    assert for_driver(config) is config


def test_a_local_study_is_trained_here(small_task, small_space) -> None:
    executor = make_executor(study_config(), small_task, small_space)
    assert isinstance(executor, LocalExecutor)
    assert (executor.in_process, executor.free_slots) == (True, 1)


@pytest.mark.parametrize(
    ("resources", "threads"),
    [({"gpu": 1}, None), ({"cpu": 2.5}, 2), ({"cpu": 0.5}, 1), ({"CPU": 4, "gpu": 1}, 4), ({"cpu": 3, "tpu": 1}, 3)],
)
def test_workers_know_study_data_model_and_place(small_task, small_space, monkeypatch, resources, threads) -> None:
    cluster = "rank_search.executors.ray_cluster.RayExecutor"
    monkeypatch.setattr(cluster, lambda config, assignment, local: SimpleNamespace(**locals()))
    config = study_config(executor={"kind": "ray", "resources": resources}, adapter={"init": {"method": "eva"}})
    made = make_executor(config, small_task, small_space)
    assert made.config is config.executor
    assert isinstance(made.local, LocalExecutor)
    assert made.local._directions is None  # which only who trains needs
    assignment = made.assignment
    assert assignment.config is config
    assert (assignment.data_fingerprint, assignment.model_fingerprint) == (
        small_task.data_fingerprint,
        small_task.fingerprint,
    )
    assert (Path(assignment.folder), assignment.threads) == (Path.cwd(), threads)


class Choosing:
    """An executor that finds a pack by timing steps."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def choose_pack(self, most: int) -> int:
        self.asked.append(most)
        return most // 2


@pytest.fixture
def packs(bench):
    """What `pack_size` finds for the study, and what it prints."""
    study, executor = bench.open(), Choosing()

    def size(**search) -> tuple[int, str]:
        printed = io.StringIO()
        found = pack_size(study, study_config(search=search), executor, Console(file=printed))
        return found, printed.getvalue()

    return SimpleNamespace(size=size, study=study, executor=executor)


@pytest.mark.parametrize(("trials", "most"), [(8, 8), (16, 16), (400, 16)])
def test_a_pack_is_no_larger_than_the_study(packs, trials, most) -> None:
    assert packs.size(pack="auto", trials=trials) == (most // 2, f"search.pack: {most // 2}, by timing steps\n")
    assert packs.executor.asked == [most]


def test_what_was_found_once_is_kept_as_proposals_depend_on_it(packs, bench) -> None:
    packs.size(pack="auto", trials=8)
    assert bench.handle().pack == 4
    assert packs.size(pack="auto", trials=100) == (4, "")
    assert packs.executor.asked == [8]


def test_a_number_in_the_study_file_is_taken_as_it_is(packs) -> None:
    packs.size(pack="auto", trials=8)
    assert packs.size(pack=3) == (3, "")
    assert packs.study.pack == 4
    assert packs.executor.asked == [8]
