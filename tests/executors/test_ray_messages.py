"""The message queue between workers and the driver, without Ray around it."""

import asyncio
import pickle
from concurrent.futures import ThreadPoolExecutor

from rank_search.executors.ray_messages import Message, MessageQueue, RayConnection


def finished(scenario) -> list:
    """What a coroutine returns; in a thread of its own, as a browser's loop may run in this one."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(asyncio.run, scenario).result()


def test_all_reports_are_received_in_their_order_and_once() -> None:
    async def scenario() -> list[list[Message]]:
        queue = MessageQueue()
        for step in (1, 2):
            await queue.report(Message(4, step, 0.5))
        first = await queue.receive()
        await queue.report(Message(5, 1, 0.25))
        return [first, await queue.receive()]

    first, second = finished(scenario())
    assert [(message.number, message.steps) for message in first] == [(4, 1), (4, 2)]
    assert [(message.number, message.loss) for message in second] == [(5, 0.25)]


def test_driver_waits_for_a_message() -> None:
    async def scenario() -> list[Message]:
        queue = MessageQueue()
        received = asyncio.create_task(queue.receive())
        await asyncio.sleep(0)
        assert not received.done()
        await queue.report(Message(1, 9, 0.1))
        return await received

    assert [message.steps for message in finished(scenario())] == [9]


def test_messages_travel_by_pickle() -> None:
    message = Message(3, 5, 0.5)
    assert pickle.loads(pickle.dumps(message)) == message


class Actor:
    """As a Ray actor, whose methods are called by ``remote``."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Message]] = []

    def __getattr__(self, name: str):
        def remote(message: Message) -> str:
            self.calls.append((name, message))
            return name

        return type("Method", (), {"remote": staticmethod(remote)})


def test_connection_waits_for_what_it_sends(monkeypatch) -> None:
    """As Ray does not keep the order of calls."""
    waited = []
    monkeypatch.setattr("rank_search.executors.ray_messages.ray.get", waited.append)
    actor = Actor()
    RayConnection(actor, 4).report(2, 0.5)
    assert waited == ["report"]
    assert actor.calls == [("report", Message(4, 2, 0.5))]
