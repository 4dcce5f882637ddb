"""Training on the workers of a Ray cluster; the study stays with the driver."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rank_search.core.errors import InputError, OutOfService, RankSearchError, TrainingFailed
from rank_search.core.files import whole_file
from rank_search.core.job import Died
from rank_search.executors.payload import Parcel
from rank_search.executors.ray_worker import Assignment, Worker
from rank_search.study.faults import failure

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it is read when Ray is imported
try:
    import ray
    from ray._private import utils as ray_utils
    from ray.exceptions import (
        ObjectLostError,
        OutOfMemoryError,
        RayActorError,
        RayError,
        RayTaskError,
        WorkerCrashedError,
    )
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError:
    raise InputError("ray is not installed; pip install 'rank_search[ray]'", field="executor.kind") from None

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from rank_search.config import ExecutorConfig
    from rank_search.core.evaluation import Evaluation, Split
    from rank_search.core.job import Outcome
    from rank_search.core.ranks import RankMap
    from rank_search.executors.local import LocalExecutor
    from rank_search.executors.protocol import Pack

_LOOK = 5.0  # seconds, after which the driver looks for room and for trials that others left
_CALLS = 3  # workers that are asked in turn
# Of a worker; by Ray, for its memory; of a node, before its results were fetched.
_DEATHS = (RayActorError, WorkerCrashedError, OutOfMemoryError, ObjectLostError)
_OWN = {"cpu": "num_cpus", "gpu": "num_gpus"}  # Ray's own names for what it counts itself


class RayExecutor:
    """Trains packs on the workers of a Ray cluster; implements `rank_search.executors.protocol.Executor`.

    A worker is a Ray actor that holds the base model and the task's data, which it loads once, from the same hub ids
    or paths as the driver. Adapters travel through Ray, so that workers need no disk that the driver sees. Workers are
    started as there is work and room for them. One that dies leaves its pack to be tried again, by another.

    Args:
        config: where to run.
        assignment: what each worker needs to know.
        local: the driver's own, for what needs no device.
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
        self._needs = {name.lower(): float(amount) for name, amount in config.resources.items()}
        self._owns_cluster = not ray.is_initialized()
        if self._owns_cluster:
            _join(config.address)
        self._steps = assignment.config.search.nested.steps or assignment.config.training.steps
        self._assignment = ray.put(assignment)
        own = {_OWN[name]: amount for name, amount in self._needs.items() if name in _OWN}
        others = {name: amount for name, amount in config.resources.items() if name.lower() not in _OWN}
        self._worker = ray.remote(worker).options(**{"num_cpus": 0, "resources": others} | own)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        desk: Any = ray.remote(Desk).options(num_cpus=0, scheduling_strategy=here).remote()
        self._desk, self._mail = desk, desk.mail.remote()
        self._idle: list[Any] = []
        self._at_work: dict[Any, tuple[Any, int, Pack]] = {}  # Ray's reference → worker, number, pack
        self._begun = 0
        self._super_adapter: Path | None = None

    @property
    def room(self) -> int:
        """As many packs as the configuration, or the cluster as it is now, has workers for, but those at work."""
        return (self._config.workers or self._places()) - len(self._at_work)

    def begin(self, pack: Pack) -> None:
        """Gives a pack to an idle worker, or to a new one."""
        worker = self._idle.pop() if self._idle else self._new_worker()
        sources = {str(job.source): Parcel.of(job.source) for job in pack.jobs if job.source}
        warm = any(job.recipe == "warm" for job in pack.jobs) and self._super_adapter is not None
        self._begun += 1
        reference = worker.train.remote(
            pack.jobs,
            pack.rungs.steps,
            RayLine(self._desk, self._begun),
            sources,
            self._super_adapter.read_bytes() if warm and self._super_adapter else None,
        )
        self._at_work[reference] = worker, self._begun, pack

    def finish(self) -> Sequence[tuple[Pack, Sequence[Outcome]]]:
        """Answers workers at their rungs until packs are done, or some seconds are over.

        Raises:
            OutOfService: a worker can't load what the study needs, or the cluster is gone.
        """
        done: list[Any] = []
        end = time.monotonic() + _LOOK
        while not done and (left := end - time.monotonic()) > 0:
            awaited = [*self._at_work, self._mail]
            ray.wait(awaited, num_returns=1, timeout=left)
            ready, _ = ray.wait(awaited, num_returns=len(awaited), timeout=0)
            if self._mail in ready:
                self._serve()
            done = [reference for reference in ready if reference in self._at_work]
        if not done:
            self._dismiss_idle()
        return [self._finished(reference) for reference in done]

    def _dismiss_idle(self) -> None:
        """Ends workers without work: others, of this driver too, may wait for what they take of the cluster."""
        while self._idle:
            ray.kill(self._idle.pop())

    def close(self) -> None:
        """Ends all workers, and the cluster if this executor has started it."""
        if not ray.is_initialized():
            return
        with suppress(RayError):  # the cluster may be gone
            for worker in [*self._idle, *(worker for worker, _, _ in self._at_work.values()), self._desk]:
                ray.kill(worker)
        if self._owns_cluster:
            ray.shutdown()

    def choose_pack(self, most: int) -> int:
        """See `LocalExecutor.choose_pack`; timed on a worker."""
        return int(self._call("choose_pack", most))

    def check_packs(self) -> None:
        """See `LocalExecutor.check_packs`."""
        self._call("check_packs")

    def evaluate(self, adapter: Path | None, split: Split) -> Evaluation:
        """See `LocalExecutor.evaluate`."""
        found: Evaluation = self._call("evaluate", None if adapter is None else Parcel.of(adapter), split)
        return found

    def spectrum(self, folder: Path) -> Mapping[str, Sequence[float]]:
        """See `LocalExecutor.spectrum`; it needs no device."""
        return self._local.spectrum(folder)

    def nested(self, file: Path) -> RemoteNested:
        """The super-adapter, trained by a worker and kept in a file of the driver's."""
        self._super_adapter = file
        return RemoteNested(self, file, self._steps, self._local.nested(file).energies)

    def train_nested(self, seed: int, data_seed: int, file: Path, on_step: Callable[[int], None]) -> None:
        """Has a worker train the super-adapter; what it is called for on the way goes into the file.

        Raises:
            TrainingFailed: the loss is not finite.
        """

        def told(steps: int, checkpoint: bytes | None) -> None:
            on_step(steps)
            if checkpoint is not None:
                _write(file, checkpoint)

        begun = file.read_bytes() if file.is_file() else None
        content = self._call("train_nested", seed, data_seed, RayLine(self._desk, 0), begun, told=told)
        _write(file, content)

    def score_nested(self, maps: Sequence[RankMap], file: Path) -> list[float]:
        """Has a worker score maps by truncation."""
        scores: list[float] = self._call("score_nested", maps, file.read_bytes())
        return scores

    def _call(self, method: str, *arguments: Any, told: Callable[[int, bytes | None], None] | None = None) -> Any:
        """What a method of a worker returns; another worker is asked where one dies.

        Raises:
            InputError: no worker can ever be started on the cluster as it is.
        """
        if self._config.workers is None and not self._places():
            raise InputError(
                f"no machine of the cluster has {dict(self._config.resources)} for a worker; lower it, or set "
                "executor.workers to wait for a machine that has",
                field="executor.resources",
            )
        for _ in range(_CALLS):
            worker = self._idle.pop() if self._idle else self._new_worker()
            reference = getattr(worker, method).remote(*arguments)
            try:
                while reference not in ray.wait([reference, self._mail], num_returns=1)[0]:
                    self._serve(told)
                found = ray.get(reference)
            except _DEATHS:
                ray.kill(worker)
                continue
            except RayTaskError as error:
                ray.kill(worker)  # it may be what is broken
                raise _cause(error) from None
            self._idle.append(worker)
            return found
        raise OutOfService(
            f"{_CALLS} workers died one after another; see Ray's logs, and run the same command to go on"
        )

    def _new_worker(self) -> Any:
        return self._worker.remote(self._assignment)

    def _places(self) -> int:
        """Workers that the living nodes have resources for."""
        try:
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        except RayError:
            raise OutOfService("the Ray cluster is gone; when it is back, run the same command to go on") from None
        counted = [{name.lower(): amount for name, amount in of.items()} for of in nodes]
        return sum(min(math.floor(of.get(name, 0) / amount) for name, amount in self._needs.items()) for of in counted)

    def _serve(self, told: Callable[[int, bytes | None], None] | None = None) -> None:
        """Reads the mail: hears how far packs are, and answers those that stand at a rung."""
        letters = ray.get(self._mail)
        self._mail = self._desk.mail.remote()
        packs = {number: pack for _, number, pack in self._at_work.values()}
        for number, steps, loss, scores, content in letters:
            if scores is not None and number in packs:
                self._desk.answer.remote(number, packs[number].rungs.keep(steps, scores))
            elif number in packs:
                packs[number].on_step(steps, loss)
            elif told is not None and number == 0:
                told(steps, content)

    def _finished(self, reference: Any) -> tuple[Pack, Sequence[Outcome]]:
        worker, _, pack = self._at_work.pop(reference)
        try:
            outcomes = ray.get(reference)
        except _DEATHS as error:
            ray.kill(worker)  # it may only be out of reach
            if getattr(error, "actor_init_failed", False):
                raise OutOfService(f"a worker can't be started: {_last_line(error)}") from None
            return pack, [Died()] * len(pack.jobs)
        except RayTaskError as error:
            ray.kill(worker)  # it may be what is broken
            return pack, [failure(_cause(error))] * len(pack.jobs)
        if all(isinstance(of, TrainingFailed) and of.kind == "error" for of in outcomes):
            ray.kill(worker)
        else:
            self._idle.append(worker)
        return pack, outcomes


class RemoteNested:
    """The super-adapter of a study, trained and scored by workers; implements `rank_search.search.nested.Scorer`."""

    def __init__(
        self, executor: RayExecutor, file: Path, steps: int, energies: Callable[[], Mapping[str, Sequence[float]]]
    ) -> None:
        self._executor = executor
        self._file = file
        self._steps = steps
        self._energies = energies

    def train(self, seed: int, data_seed: int, on_step: Callable[[int, int], None]) -> None:
        """See `Nested.train`."""
        self._executor.train_nested(seed, data_seed, self._file, lambda done: on_step(done, self._steps))

    def score(self, maps: Sequence[RankMap]) -> list[float]:
        """See `Nested.score`."""
        return self._executor.score_nested(maps, self._file)

    def energies(self) -> Mapping[str, Sequence[float]]:
        """See `Nested.energies`; it only reads the file."""
        return self._energies()


class RayLine:
    """A worker's line to the driver; implements `rank_search.executors.ray_worker.Line`.

    Args:
        desk: where the driver reads its mail.
        number: of the pack.
    """

    def __init__(self, desk: Any, number: int) -> None:
        self._desk = desk
        self._number = number

    def told(self, steps: int, loss: float, checkpoint: bytes | None = None) -> None:
        """Leaves word of how far it is, and waits until it lies there, as Ray does not keep calls in order."""
        ray.get(self._desk.told.remote(self._number, steps, loss, checkpoint))

    def asked(self, steps: int, scores: Mapping[int, float]) -> set[int]:
        """Asks who goes on, and waits for the answer."""
        going_on: set[int] = ray.get(self._desk.asked.remote(self._number, steps, dict(scores)))
        return going_on


class Desk:
    """Where workers leave what they have to say and to ask; the driver reads it, as nobody can call a driver."""

    def __init__(self) -> None:
        self._letters: asyncio.Queue[tuple[int, int, float, Any, Any]] = asyncio.Queue()
        self._answers: dict[int, asyncio.Future[set[int]]] = {}

    async def told(self, number: int, steps: int, loss: float, checkpoint: bytes | None) -> None:
        """Keeps word of a pack's steps."""
        await self._letters.put((number, steps, loss, None, checkpoint))

    async def asked(self, number: int, steps: int, scores: dict[int, float]) -> set[int]:
        """Keeps a question, and waits for its answer."""
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._letters.put((number, steps, math.nan, scores, None))
        return await self._answers[number]

    async def answer(self, number: int, going_on: set[int]) -> None:
        """Answers the question of a pack."""
        if number in self._answers:
            self._answers.pop(number).set_result(going_on)

    async def mail(self) -> list[tuple[int, int, float, Any, Any]]:
        """All letters; waits for the first."""
        letters = [await self._letters.get()]
        while not self._letters.empty():
            letters.append(self._letters.get_nowait())
        return letters


def _join(address: str | None) -> None:
    """Joins a cluster, or starts one on this machine."""
    handler = signal.getsignal(signal.SIGTERM)
    # Ray shows the command line of a job's driver to all users of the cluster; it may hold a storage's password.
    ray_utils.get_entrypoint_name = lambda: "rank_search run"
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RayError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"can't join the Ray cluster {address!r}: {reason}", field="executor.address") from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray sets its own


def _cause(error: RayTaskError) -> Exception:
    """What a worker raised."""
    cause = error.cause
    return cause if isinstance(cause, Exception) else RankSearchError(_last_line(error))


def _last_line(error: RayError) -> str:
    """What Ray has to say, without the trace before it."""
    return str(error).strip().splitlines()[-1]


def _write(file: Path, content: bytes) -> None:
    with whole_file(file) as partial:
        partial.write_bytes(content)
