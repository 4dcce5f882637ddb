"""Messages from workers to the driver. A worker can't call the driver, so the driver reads a queue."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from rank_search.executors.ray_session import on_this_node, ray


@dataclass(frozen=True)
class Message:
    """A report of a worker.

    Attributes:
        number: number of the pack.
        steps: finished steps.
        loss: loss of the last step.
    """

    number: int
    steps: int
    loss: float


class MessageQueue:
    """Holds messages until the driver receives them; a Ray actor."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[Message] = asyncio.Queue()

    async def report(self, message: Message) -> None:
        """Adds a report."""
        await self._messages.put(message)

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
        number: number of the pack.
    """

    def __init__(self, queue: Any, number: int) -> None:
        self._queue = queue
        self._number = number

    def report(self, steps: int, loss: float) -> None:
        """Sends a report, and waits until it is in the queue, because Ray does not keep the order of calls."""
        ray.get(self._queue.report.remote(Message(self._number, steps, loss)))
