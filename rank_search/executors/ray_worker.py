"""What runs in a worker of a cluster: a base model and the task's data, loaded once, and packs trained on them."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

import torch

from rank_search.core.errors import OutOfService
from rank_search.core.job import Rungs
from rank_search.executors.local import LocalExecutor
from rank_search.executors.payload import Parcel, shipped
from rank_search.models.modules import build_space
from rank_search.models.quiet import quiet
from rank_search.tasks.load import load_task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rank_search.config import StudyConfig
    from rank_search.core.evaluation import Evaluation, Split
    from rank_search.core.job import Job, Outcome
    from rank_search.core.ranks import RankMap

_TOLD = 1.0  # seconds between two words of how far a training is


class Line(Protocol):
    """A worker's line to the driver, while it trains."""

    def told(self, steps: int, loss: float, checkpoint: bytes | None = None) -> None:
        """So many steps are done, with this loss at the last one; and this may be kept of them."""

    def asked(self, steps: int, scores: Mapping[int, float]) -> set[int]:
        """Who goes on at a rung; waits for the driver's word."""


@dataclass(frozen=True)
class Assignment:
    """What every worker of a study needs to know.

    Attributes:
        config: the study file.
        data_fingerprint: of the driver's data.
        model_fingerprint: of the driver's base model.
        folder: the driver's working folder, from where relative paths count.
        threads: of PyTorch on a CPU; None for its own choice.
    """

    config: StudyConfig
    data_fingerprint: str
    model_fingerprint: str
    folder: str
    threads: int | None


class Worker:
    """Trains packs on one device, and does what else needs the base model."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._executor: LocalExecutor | None = None
        self._super_adapter: bytes | None = None

    @cached_property
    def _files(self) -> TemporaryDirectory[str]:
        """Where adapters from the driver lie; made when there are any, as a killed worker leaves it behind."""
        return TemporaryDirectory(prefix="rank_search-")

    def train(
        self,
        jobs: Sequence[Job],
        rungs: Sequence[int],
        line: Line,
        adapters: Mapping[str, Parcel],
        super_adapter: bytes | None,
    ) -> list[Outcome]:
        """Makes and scores the adapters of a pack.

        Args:
            jobs: what to train.
            rungs: steps at which the driver is asked who goes on.
            line: to the driver.
            adapters: those that jobs are cut out of, by their path on the driver's disk.
            super_adapter: the file of the nested one, if jobs start from it.
        """
        executor = self._ready()
        if super_adapter is not None:
            executor.nested(self._super_adapter_file(super_adapter))
        own = [replace(job, source=self._unpacked(str(job.source), adapters)) if job.source else job for job in jobs]
        told = _Seldom(line)
        return [shipped(of) for of in executor.train(own, told, Rungs(rungs, line.asked))]

    def choose_pack(self, most: int) -> int:
        """See `LocalExecutor.choose_pack`."""
        return self._ready().choose_pack(most)

    def check_packs(self) -> None:
        """See `LocalExecutor.check_packs`."""
        self._ready().check_packs()

    def evaluate(self, adapter: Parcel | None, split: Split) -> Evaluation:
        """See `LocalExecutor.evaluate`."""
        if adapter is None:
            return self._ready().evaluate(None, split)
        with TemporaryDirectory(prefix="rank_search-") as folder:
            adapter.write(Path(folder) / "adapter")
            return self._ready().evaluate(Path(folder) / "adapter", split)

    def train_nested(self, seed: int, data_seed: int, line: Line, checkpoint: bytes | None) -> bytes:
        """Trains the super-adapter, or goes on with it, and returns its file."""
        file = self._super_adapter_file(checkpoint)
        told = _Seldom(line, file)
        self._ready().nested(file).train(seed, data_seed, lambda done, _of: told(done, math.nan))
        return file.read_bytes()

    def score_nested(self, maps: Sequence[RankMap], super_adapter: bytes) -> list[float]:
        """Scores of maps by truncating the super-adapter."""
        return self._ready().nested(self._super_adapter_file(super_adapter)).score(maps)

    def _ready(self) -> LocalExecutor:
        """The executor; loads model and data when it is first asked for.

        Raises:
            OutOfService: they can't be loaded here, or are not those of the driver.
        """
        if self._executor is None:
            quiet()
            of = self._assignment
            if of.threads is not None:
                torch.set_num_threads(of.threads)
            if Path(of.folder).is_dir():
                os.chdir(of.folder)
            try:
                task = load_task(of.config)
                executor = LocalExecutor(of.config, task, build_space(task.backbone, of.config, task.head))
            except Exception as error:  # whatever it is, no trial is to blame
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                raise OutOfService(f"a worker can't load what the study needs: {reason}") from None
            found = (task.data_fingerprint, task.fingerprint)
            if found != (of.data_fingerprint, of.model_fingerprint):
                raise OutOfService("a worker found other data or another base model than the driver; mend its files")
            self._executor = executor
        return self._executor

    def _super_adapter_file(self, content: bytes | None) -> Path:
        file = Path(self._files.name) / "nested.safetensors"
        if content is not None and content != self._super_adapter:
            file.write_bytes(content)
            self._super_adapter = content
        return file

    def _unpacked(self, source: str, adapters: Mapping[str, Parcel]) -> Path:
        folder = Path(self._files.name) / Path(source).name
        if not folder.is_dir():
            adapters[source].write(folder)
        return folder


class _Seldom:
    """Tells the driver how far a training is, but not at every step; and of a file, whenever it was written."""

    def __init__(self, line: Line, file: Path | None = None) -> None:
        self._line = line
        self._file = file
        self._told = -_TOLD
        self._written = self._time()

    def __call__(self, steps: int, loss: float) -> None:
        if (now := time.monotonic()) - self._told < _TOLD:
            return
        self._told = now
        checkpoint = None
        if self._file is not None and (written := self._time()) != self._written:
            checkpoint, self._written = self._file.read_bytes(), written
        self._line.told(steps, loss, checkpoint)

    def _time(self) -> Any:
        return self._file.stat().st_mtime_ns if self._file is not None and self._file.is_file() else None
