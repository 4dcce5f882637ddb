"""Who trains: this process, or the workers of a cluster, as the study file says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rank_search.executors.local import LocalExecutor

if TYPE_CHECKING:
    from rich.console import Console

    from rank_search.config import StudyConfig
    from rank_search.core.space import Space
    from rank_search.executors.ray_cluster import RayExecutor
    from rank_search.study.handle import Study
    from rank_search.tasks.base import Task

_LARGEST_PACK = 16


def for_driver(config: StudyConfig) -> StudyConfig:
    """The study as the driver of a cluster loads it: what it does itself needs no device, which workers have."""
    if config.executor.kind == "local" or config.model.quantization == "4bit":
        return config
    return config.model_copy(update={"model": config.model.model_copy(update={"device": "cpu"})})


def make_executor(config: StudyConfig, task: Task, space: Space) -> LocalExecutor | RayExecutor:
    """The executor that the study file names.

    Raises:
        InputError: the cluster can't be reached, or Ray is not installed.
    """
    if config.executor.kind == "local":
        return LocalExecutor(config, task, space)
    from rank_search.executors.ray_cluster import RayExecutor
    from rank_search.executors.ray_worker import Assignment

    resources = {name.lower(): amount for name, amount in config.executor.resources.items()}  # as RayExecutor reads it
    threads = max(1, int(resources["cpu"])) if "cpu" in resources else None
    return RayExecutor(
        config.executor,
        Assignment(config, space, task.data_fingerprint, task.fingerprint, str(Path.cwd()), threads),
        LocalExecutor(config, task, space, trains=False),
    )


def pack_size(study: Study, config: StudyConfig, executor: LocalExecutor | RayExecutor, console: Console) -> int:
    """How many maps to train at once; what ``search.pack: auto`` finds is kept, since proposals depend on it."""
    if config.search.pack != "auto":
        return config.search.pack
    if (kept := study.pack) is None:
        kept = executor.choose_pack(min(_LARGEST_PACK, config.search.trials))
        study.keep_pack(kept)
        console.print(f"search.pack: {kept}, by timing steps")
    return kept
