"""Messages from workers to the driver. A worker can't call the driver, so the driver reads a queue."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rank_search.executors.ray_session import on_this_node, ray

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Message:
    """A report of a worker, or a question at a rung.

    Attributes:
        number: number of the pack; 0 for the training of the super-adapter.
        steps: finished steps.
        loss: loss of the last step; NaN in a question.
        scores: for a question, job's number → score at the rung; None for a report.
        checkpoint: content of the super-adapter's file if it has changed.
    """

    number: int
    steps: int
    loss: float = math.nan
    scores: Mapping[int, float] | None = None
    checkpoint: bytes | None = None


class MessageQueue:
    """Holds messages until the driver receives them, and questions until the driver answers them; a Ray actor."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._answers: dict[int, asyncio.Future[set[int]]] = {}

    async def report(self, message: Message) -> None:
        """Adds a report."""
        await self._messages.put(message)

    async def ask(self, message: Message) -> set[int]:
        """Adds a question, and waits for its answer: the numbers of the jobs that continue."""
        self._answers[message.number] = asyncio.get_running_loop().create_future()
        await self._messages.put(message)
        return await self._answers[message.number]

    async def answer(self, number: int, kept: set[int]) -> None:
        """Answers the question of a pack; does nothing if it has none."""
        if number in self._answers:
            self._answers.pop(number).set_result(kept)

    async def receive(self) -> list[Message]:
        """Removes and returns all messages, oldest first; waits until there is one."""
        messages = [await self._messages.get()]
        while not self._messages.empty():
            messages.append(self._messages.get_nowait())
        return messages


def start_queue() -> Any:
    """Starts a message queue as a Ray actor on the driver's node."""
    actor: Any = ray.remote(MessageQueue).options(num_cpus=0, scheduling_strategy=on_this_node())
    return actor.remote()


class RayConnection:
    """A worker's connection to the driver; implements `rank_search.executors.ray_worker.DriverConnection`.

    Args:
        queue: the Ray actor that the driver reads.
        number: number of the pack; 0 for the training of the super-adapter.
    """

    def __init__(self, queue: Any, number: int) -> None:
        self._queue = queue
        self._number = number

    def report(self, steps: int, loss: float, checkpoint: bytes | None = None) -> None:
        """Sends a report, and waits until it is in the queue, because Ray does not keep the order of calls."""
        ray.get(self._queue.report.remote(Message(self._number, steps, loss, checkpoint=checkpoint)))

    def ask(self, steps: int, scores: Mapping[int, float]) -> set[int]:
        """Asks which jobs continue, and waits for the answer."""
        kept: set[int] = ray.get(self._queue.ask.remote(Message(self._number, steps, scores=dict(scores))))
        return kept
