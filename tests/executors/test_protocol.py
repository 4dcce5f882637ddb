"""Packs, one after another in this process; and packs of an executor whose processes die."""

import pytest

from rank_search.core.errors import OutOfService, TrainingFailed
from rank_search.core.evaluation import Evaluation
from rank_search.core.job import Died, FineTuned
from rank_search.core.ranks import RankMap
from rank_search.executors.protocol import Pack, Serial, train_packs
from tests.jobs import job_for

DONE = FineTuned(Evaluation("f1", {"f1": [0.5]}), (), 0.1, None)


def pack(*numbers: int) -> Pack:
    return Pack([job_for(RankMap({"w": 1}), 0, 0, number=number) for number in numbers])


def test_serial_trains_when_it_is_waited_for() -> None:
    trained = []
    serial = Serial(lambda *arguments: trained.append(arguments) or [DONE])
    assert serial.free_slots == 1
    assert serial.wait() == []
    given = Pack(pack(0).jobs, lambda *_: None)
    serial.submit(given)
    assert (serial.free_slots, trained) == (0, [])
    assert serial.wait() == [(given, [DONE])]
    assert trained == [(given.jobs, given.on_step)]
    assert serial.free_slots == 1


def test_what_is_raised_fails_every_job_of_the_pack() -> None:
    def broken(*_):
        raise ValueError("of the model")

    serial = Serial(broken)
    serial.submit(given := pack(0, 1))
    ((found, outcomes),) = serial.wait()
    assert found is given
    assert [(type(outcome), str(outcome)) for outcome in outcomes] == [(TrainingFailed, "ValueError: of the model")] * 2
    assert serial.free_slots == 1


def test_what_no_trial_can_cause_is_raised() -> None:
    def full(*_):
        raise OSError(28, "No space left on device", "/full")

    serial = Serial(full)
    serial.submit(pack(0))
    with pytest.raises(OutOfService, match="disk is full"):
        serial.wait()


class Dying:
    """Two packs at once; a pack's process dies so many times."""

    in_process = False

    def __init__(self, deaths: dict[int, int]) -> None:
        self.deaths = deaths
        self.running: list[Pack] = []
        self.log: list[int] = []
        self.most = 0

    @property
    def free_slots(self) -> int:
        return 2 - len(self.running)

    def submit(self, submitted: Pack) -> None:
        assert self.free_slots > 0
        self.running.append(submitted)
        self.log.append(submitted.jobs[0].number)
        self.most = max(self.most, len(self.running))

    def wait(self):
        done = self.running.pop(0)
        number = done.jobs[0].number
        self.deaths[number] = self.deaths.get(number, 0) - 1
        return [(done, [Died() if self.deaths[number] >= 0 else DONE] * len(done.jobs))]


def test_every_slot_is_used_and_packs_come_as_they_are_done() -> None:
    executor, packs = Dying({}), [pack(number) for number in range(5)]
    found = list(train_packs(executor, packs))
    assert [one for one, _ in found] == packs
    assert executor.most == 2
    assert executor.log == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("deaths", "attempts", "last"), [(1, 2, DONE), (2, 3, DONE), (3, 3, Died()), (9, 3, Died())])
def test_pack_whose_process_dies_is_tried_three_times(deaths, attempts, last) -> None:
    executor, packs = Dying({1: deaths}), [pack(0), pack(1, 7), pack(2)]
    found = dict(train_packs(executor, packs))
    assert executor.log.count(1) == attempts
    assert found[packs[1]] == [last, last]
    assert found[packs[0]] == found[packs[2]] == [DONE]
