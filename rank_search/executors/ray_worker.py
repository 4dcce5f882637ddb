"""Runs in a worker of a cluster: loads the base model and the task's data once, and trains packs on them."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Protocol

from rank_search.core.errors import OutOfService
from rank_search.executors.payload import FolderPayload, picklable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rank_search.config import StudyConfig
    from rank_search.core.evaluation import Evaluation, Split
    from rank_search.core.job import Job, Outcome
    from rank_search.core.space import Space
    from rank_search.executors.local import LocalExecutor

_REPORT_SECONDS = 1.0  # least time between two reports of a training


class DriverConnection(Protocol):
    """A worker's connection to the driver while it trains."""

    def report(self, steps: int, loss: float) -> None:
        """Reports the finished steps and the last loss."""


@dataclass(frozen=True)
class Assignment:
    """What every worker of a study needs to know.

    Attributes:
        config: the study file.
        space: what is searched.
        data_fingerprint: fingerprint of the driver's data.
        model_fingerprint: fingerprint of the driver's base model.
        folder: the driver's working folder; relative paths start there.
        threads: PyTorch's threads on a CPU; None for PyTorch's own choice.
    """

    config: StudyConfig
    space: Space
    data_fingerprint: str
    model_fingerprint: str
    folder: str
    threads: int | None


class Worker:
    """Trains packs on one device, and does everything else that needs the base model."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._executor: LocalExecutor | None = None

    @cached_property
    def _files(self) -> TemporaryDirectory[str]:
        """Holds adapters from the driver; made on first use, because a killed worker leaves it behind."""
        return TemporaryDirectory(prefix="rank_search-")

    def train(
        self,
        jobs: Sequence[Job],
        connection: DriverConnection,
        adapters: Mapping[str, FolderPayload],
    ) -> list[Outcome]:
        """Trains and scores the adapters of a pack.

        Args:
            jobs: what to train.
            connection: to the driver.
            adapters: path on the driver's disk → the adapter that jobs truncate.
        """
        executor = self._load()
        local_jobs = [
            replace(job, source=self._write_adapter(str(job.source), adapters)) if job.source else job for job in jobs
        ]
        outcomes = executor.train(local_jobs, _ThrottledReporter(connection))
        return [picklable(outcome) for outcome in outcomes]

    def choose_pack(self, most: int) -> int:
        """See `LocalExecutor.choose_pack`."""
        return self._load().choose_pack(most)

    def check_packs(self) -> None:
        """See `LocalExecutor.check_packs`."""
        self._load().check_packs()

    def evaluate(self, adapter: FolderPayload | None, split: Split) -> Evaluation:
        """See `LocalExecutor.evaluate`."""
        if adapter is None:
            return self._load().evaluate(None, split)
        with TemporaryDirectory(prefix="rank_search-") as folder:
            adapter.write(Path(folder) / "adapter")
            return self._load().evaluate(Path(folder) / "adapter", split)

    def _load(self) -> LocalExecutor:
        """Returns the executor; loads the model and the data on the first call.

        Raises:
            OutOfService: they can't be loaded here, or differ from the driver's.
        """
        if self._executor is None:
            self._executor = _loaded(self._assignment)
        return self._executor

    def _write_adapter(self, source: str, adapters: Mapping[str, FolderPayload]) -> Path:
        """Returns the local folder of an adapter from the driver; writes it on the first call."""
        folder = Path(self._files.name) / Path(source).name
        if not folder.is_dir():
            adapters[source].write(folder)
        return folder


def _loaded(assignment: Assignment) -> LocalExecutor:
    # Imported here, as they load torch, which a driver of remote workers can do without.
    import torch

    from rank_search.executors.local import LocalExecutor
    from rank_search.models.library_logs import silence_library_logs
    from rank_search.tasks.load import load_task

    silence_library_logs()
    if assignment.threads is not None:
        torch.set_num_threads(assignment.threads)
    if Path(assignment.folder).is_dir():
        os.chdir(assignment.folder)
    try:
        task = load_task(assignment.config)
        executor = LocalExecutor(assignment.config, task, assignment.space)
    except Exception as error:  # no trial can be the cause
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise OutOfService(f"a worker can't load what the study needs: {reason}") from None
    found = (task.data_fingerprint, task.fingerprint)
    if found != (assignment.data_fingerprint, assignment.model_fingerprint):
        raise OutOfService("a worker found other data or another base model than the driver; fix its files")
    return executor


class _ThrottledReporter:
    """Reports a training to the driver, at most once a second."""

    def __init__(self, connection: DriverConnection) -> None:
        self._connection = connection
        self._last_report = -math.inf

    def __call__(self, steps: int, loss: float) -> None:
        if (now := time.monotonic()) - self._last_report < _REPORT_SECONDS:
            return
        self._last_report = now
        self._connection.report(steps, loss)
