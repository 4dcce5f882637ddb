"""Trains on the workers of a Ray cluster; the study stays with the driver."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rank_search.core.errors import InputError, OutOfService, TrainingFailed
from rank_search.core.job import Died
from rank_search.executors.payload import FolderPayload
from rank_search.executors.ray_messages import RayConnection, start_queue
from rank_search.executors.ray_session import (
    DEATHS,
    RayError,
    RayTaskError,
    cause_of,
    connect,
    last_line,
    places_for,
    ray,
)
from rank_search.executors.ray_worker import Assignment, Worker
from rank_search.study.faults import failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rank_search.config import ExecutorConfig
    from rank_search.core.evaluation import Evaluation, Split
    from rank_search.core.job import Outcome
    from rank_search.executors.local import LocalExecutor
    from rank_search.executors.protocol import Pack

_WAIT_SECONDS = 5.0  # then the driver looks for free slots and for trials that other drivers left
_MAX_CALLS = 3  # of a method, each on another worker
_COUNTED_BY_RAY = {"cpu": "num_cpus", "gpu": "num_gpus"}  # options for the resources that Ray counts itself


class RayExecutor:
    """Trains packs on the workers of a Ray cluster; implements `rank_search.executors.protocol.Executor`.

    A worker is a Ray actor that holds the base model and the task's data. It loads them once, from the same hub ids
    or paths as the driver. Adapters are sent through Ray, so workers and driver need no shared disk. Workers are
    started when there is work and the cluster has resources. If one dies, its pack has the outcome `Died`, and can be
    submitted again.

    Args:
        config: the section ``executor`` of the study file.
        assignment: what each worker needs to know.
        local: the driver's own executor, for what needs no device.
        worker: class of the workers.

    Raises:
        InputError: the cluster can't be reached.
    """

    in_process = False

    def __init__(
        self, config: ExecutorConfig, assignment: Assignment, local: LocalExecutor, worker: type[Worker] = Worker
    ) -> None:
        self._config = config
        self._local = local
        self._resources = {name.lower(): float(amount) for name, amount in config.resources.items()}
        self._owns_cluster = not ray.is_initialized()
        if self._owns_cluster:
            connect(config.address)
        self._assignment = ray.put(assignment)
        self._worker_class = ray.remote(worker).options(**self._worker_options())
        self._queue = start_queue()
        self._messages = self._queue.receive.remote()
        self._idle: list[Any] = []
        self._running: dict[Any, tuple[Any, int, Pack]] = {}  # Ray's reference → worker, number, pack
        self._packs_submitted = 0

    def _worker_options(self) -> dict[str, Any]:
        """Ray's options for the resources of a worker."""
        counted = {_COUNTED_BY_RAY[name]: n for name, n in self._resources.items() if name in _COUNTED_BY_RAY}
        custom = {name: n for name, n in self._config.resources.items() if name.lower() not in _COUNTED_BY_RAY}
        return {"num_cpus": 0, "resources": custom} | counted

    @property
    def free_slots(self) -> int:
        """Number of workers, by ``executor.workers`` or by the cluster's resources now, minus the running packs."""
        return (self._config.workers or places_for(self._resources)) - len(self._running)

    def submit(self, pack: Pack) -> None:
        """Sends a pack to an idle worker, or to a new one."""
        worker = self._idle.pop() if self._idle else self._new_worker()
        sources = {str(job.source): FolderPayload.from_folder(job.source) for job in pack.jobs if job.source}
        self._packs_submitted += 1
        reference = worker.train.remote(
            pack.jobs,
            RayConnection(self._queue, self._packs_submitted),
            sources,
        )
        self._running[reference] = worker, self._packs_submitted, pack

    def wait(self) -> Sequence[tuple[Pack, Sequence[Outcome]]]:
        """Handles messages until packs are done, or some seconds have passed.

        Raises:
            OutOfService: a worker can't load what the study needs, or the cluster is gone.
        """
        done: list[Any] = []
        end = time.monotonic() + _WAIT_SECONDS
        while not done and (left := end - time.monotonic()) > 0:
            awaited = [*self._running, self._messages]
            ray.wait(awaited, num_returns=1, timeout=left)
            ready, _ = ray.wait(awaited, num_returns=len(awaited), timeout=0)
            if self._messages in ready:
                self._handle_messages()
            done = [reference for reference in ready if reference in self._running]
        if not done:
            self._stop_idle_workers()
        return [self._collect(reference) for reference in done]

    def _stop_idle_workers(self) -> None:
        """Stops workers without work: other workers, also of this driver, may need their resources."""
        while self._idle:
            ray.kill(self._idle.pop())

    def close(self) -> None:
        """Stops all workers, and the cluster if this executor has started it."""
        if not ray.is_initialized():
            return
        with suppress(RayError):  # the cluster may be gone
            for worker in [*self._idle, *(worker for worker, _, _ in self._running.values()), self._queue]:
                ray.kill(worker)
        if self._owns_cluster:
            ray.shutdown()

    def choose_pack(self, most: int) -> int:
        """See `LocalExecutor.choose_pack`; runs on a worker."""
        return int(self._call("choose_pack", most))

    def check_packs(self) -> None:
        """See `LocalExecutor.check_packs`; runs on a worker."""
        self._call("check_packs")

    def evaluate(self, adapter: Path | None, split: Split) -> Evaluation:
        """See `LocalExecutor.evaluate`; runs on a worker."""
        payload = None if adapter is None else FolderPayload.from_folder(adapter)
        evaluation: Evaluation = self._call("evaluate", payload, split)
        return evaluation

    def spectrum(self, folder: Path) -> Mapping[str, Sequence[float]]:
        """See `LocalExecutor.spectrum`; runs in the driver, because it needs no device."""
        return self._local.spectrum(folder)

    def _call(self, method: str, *arguments: Any) -> Any:
        """Calls a method of a worker, and returns its result; tries another worker if one dies.

        Raises:
            InputError: no node of the cluster has the resources for a worker.
            OutOfService: several workers died one after another.
        """
        if self._config.workers is None and not places_for(self._resources):
            raise InputError(
                f"no machine of the cluster has {dict(self._config.resources)} for a worker; lower it, or set "
                "executor.workers to wait for a machine that has",
                field="executor.resources",
            )
        for _ in range(_MAX_CALLS):
            worker = self._idle.pop() if self._idle else self._new_worker()
            reference = getattr(worker, method).remote(*arguments)
            try:
                while reference not in ray.wait([reference, self._messages], num_returns=1)[0]:
                    self._handle_messages()
                result = ray.get(reference)
            except DEATHS:
                ray.kill(worker)
                continue
            except RayTaskError as error:
                ray.kill(worker)  # the worker itself may be broken
                raise cause_of(error) from None
            self._idle.append(worker)
            return result
        raise OutOfService(
            f"{_MAX_CALLS} workers died one after another; see Ray's logs, and run the same command to go on"
        )

    def _new_worker(self) -> Any:
        return self._worker_class.remote(self._assignment)

    def _handle_messages(self) -> None:
        """Receives messages, and passes on how far packs are."""
        messages = ray.get(self._messages)
        self._messages = self._queue.receive.remote()
        packs = {number: pack for _, number, pack in self._running.values()}
        for message in messages:
            if (pack := packs.get(message.number)) is not None:
                pack.on_step(message.steps, message.loss)

    def _collect(self, reference: Any) -> tuple[Pack, Sequence[Outcome]]:
        """Fetches the outcomes of a pack that is done, and keeps its worker if the worker is sound."""
        worker, _, pack = self._running.pop(reference)
        try:
            outcomes = ray.get(reference)
        except DEATHS as error:
            ray.kill(worker)  # it may still run, out of reach
            if getattr(error, "actor_init_failed", False):
                raise OutOfService(f"a worker can't be started: {last_line(error)}") from None
            return pack, [Died()] * len(pack.jobs)
        except RayTaskError as error:
            ray.kill(worker)  # the worker itself may be broken
            return pack, [failure(cause_of(error))] * len(pack.jobs)
        if all(isinstance(outcome, TrainingFailed) and outcome.kind == "error" for outcome in outcomes):
            ray.kill(worker)
        else:
            self._idle.append(worker)
        return pack, outcomes
