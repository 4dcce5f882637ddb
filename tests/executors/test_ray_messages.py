"""The message queue between workers and the driver, without Ray around it."""

import asyncio
import math
import pickle

from rank_search.executors.ray_messages import Message, MessageQueue, RayConnection


def test_all_reports_are_received_in_their_order_and_once() -> None:
    async def scenario() -> list[list[Message]]:
        queue = MessageQueue()
        for step in (1, 2):
            await queue.report(Message(4, step, 0.5))
        first = await queue.receive()
        await queue.report(Message(5, 1, 0.5, checkpoint=b"file"))
        return [first, await queue.receive()]

    first, second = asyncio.run(scenario())
    assert [(message.number, message.steps) for message in first] == [(4, 1), (4, 2)]
    assert [(message.number, message.checkpoint) for message in second] == [(5, b"file")]


def test_driver_waits_for_a_message() -> None:
    async def scenario() -> list[Message]:
        queue = MessageQueue()
        received = asyncio.create_task(queue.receive())
        await asyncio.sleep(0)
        assert not received.done()
        await queue.report(Message(1, 9, 0.1))
        return await received

    assert [message.steps for message in asyncio.run(scenario())] == [9]


def test_each_question_waits_for_its_own_answer() -> None:
    async def scenario() -> tuple[set[int], set[int]]:
        queue = MessageQueue()
        one = asyncio.create_task(queue.ask(Message(1, 3, scores={10: 0.5, 11: 0.1})))
        two = asyncio.create_task(queue.ask(Message(2, 3, scores={20: 0.7})))
        await asyncio.sleep(0)
        asked = await queue.receive()
        assert [(message.number, message.scores) for message in asked] == [(1, {10: 0.5, 11: 0.1}), (2, {20: 0.7})]
        await queue.answer(2, {20})
        await asyncio.sleep(0)
        assert two.done()
        assert not one.done()
        await queue.answer(1, {10})
        await queue.answer(1, {11})  # it has its answer already
        return await one, await two

    assert asyncio.run(scenario()) == ({10}, {20})


def test_messages_travel_by_pickle() -> None:
    message = Message(3, 5, scores={1: 0.5})
    assert pickle.loads(pickle.dumps(message)).scores == {1: 0.5}
    assert math.isnan(message.loss)


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
    results = {"report": None, "ask": {1}}
    get = "rank_search.executors.ray_messages.ray.get"
    monkeypatch.setattr(get, lambda reference: waited.append(reference) or results[reference])
    actor = Actor()
    connection = RayConnection(actor, 4)
    connection.report(2, 0.5, b"checkpoint")
    assert connection.ask(3, {1: 0.9}) == {1}
    assert waited == ["report", "ask"]
    (_, report), (_, question) = actor.calls
    assert report == Message(4, 2, 0.5, None, b"checkpoint")
    assert (question.number, question.steps, question.scores) == (4, 3, {1: 0.9})
