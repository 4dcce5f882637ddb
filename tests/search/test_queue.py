"""Which trials a driver takes next, and which it leaves to others."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from optuna.trial import TrialState

from rank_search.search.proposals.samplers import DistinctSampler, sampler_maker
from rank_search.search.queue import MAX_ATTEMPTS, TrialQueue
from rank_search.study.handle import Study
from rank_search.study.leases import Leases, is_live
from rank_search.study.record import TrialAttributes, keep
from tests.bench import SPACE, Bench, recorded, study_config
from tests.search.test_loop import forget_lease

pytestmark = pytest.mark.slow


@dataclass
class Driver:
    """A driver of the study, as far as its queue goes."""

    study: Study
    queue: TrialQueue

    def take(self, at_work=()) -> list[int]:
        """Numbers of the trials that it takes to train."""
        trials, _ = self.queue.take(at_work)
        self.queue.started()
        return [trial.number for trial in trials]

    def tell(self, *numbers: int) -> None:
        for number in numbers:
            recorded(self.study, number)

    def attributes(self, number: int) -> TrialAttributes:
        return TrialAttributes.read(self.study.optuna_study.trials[number])


@pytest.fixture
def driver(bench):
    def start(trials=8, *, pack=1, sole_driver=False, counts_attempts=True, baselines=()) -> Driver:
        study = bench.handle() if (bench.folder.path / "study.db").is_file() else bench.open()
        study.optuna_study.sampler = DistinctSampler(sampler_maker("random", SPACE), 0, SPACE)
        config = study_config(search={"trials": trials, "baselines": list(baselines)})
        schedule = bench.schedule(study, config)
        return Driver(study, TrialQueue(study, schedule, Leases(study.lock), pack, sole_driver, counts_attempts))

    return start


def set_attempts(bench: Bench, number: int, attempts: int) -> None:
    study = bench.study()
    study._storage.set_trial_user_attr(study.trials[number]._trial_id, "attempts", attempts)


def test_planned_trials_come_first_then_proposals_then_nothing(driver) -> None:
    mine = driver(trials=6)
    for number in range(6):
        assert mine.take() == [number]
        mine.tell(number)
    assert mine.take() == []
    records = mine.study.trials()
    assert [record.candidate.rank_map for record in records[:4]] == [SPACE.uniform(rank) for rank in SPACE.ladder]
    assert [record.attributes.kind for record in records[4:]] == ["baseline:family", "search"]
    assert not mine.queue.others_running()


def test_pack_ends_at_a_multiple_of_its_size_and_mixes_no_plans_with_proposals(driver) -> None:
    mine = driver(trials=9, pack=3)
    packs = []
    while taken := mine.take():
        packs.append(taken)
        mine.tell(*taken)
    assert packs == [[0, 1, 2], [3, 4], [5], [6, 7, 8]]


def test_taken_trials_are_leased_and_drawn(driver) -> None:
    mine = driver(pack=2)
    assert mine.take() == [0, 1]
    for record in mine.study.trials():
        assert record.proposal.keys() == SPACE.dimensions.keys()
        assert is_live(record.attributes.lease)
    assert mine.queue.others_running()


def test_a_rival_outside_the_space_draws_no_proposal(driver) -> None:
    mine = driver(trials=1, baselines=["eva"])
    mine.take()
    mine.tell(0)
    assert mine.take() == [1]
    record = mine.study.trials()[1]
    assert (record.proposal, record.candidate.recipe) == ({}, "eva")


def test_a_living_drivers_trials_are_left_to_it(driver) -> None:
    mine, other = driver(), driver()
    assert (mine.take(), other.take()) == ([0], [1])
    assert mine.take(at_work={0}) == [2]


def test_a_dead_drivers_trials_are_taken_over_before_new_ones_and_as_they_were(driver, bench) -> None:
    driver(pack=2).take()
    before = bench.handle().trials()
    forget_lease(bench.study())
    heir = driver(pack=2)
    assert heir.take() == [0, 1]
    for record, old in zip(heir.study.trials(), before, strict=True):
        assert (record.candidate, record.state) == (old.candidate, TrialState.RUNNING)
        assert heir.queue.leases.is_ours(record.attributes.lease)


def test_a_sole_driver_takes_over_whatever_a_lease_says_but_not_what_it_trains(driver) -> None:
    driver().take()
    mine = driver(sole_driver=True)
    assert mine.take() == [0]
    assert mine.take(at_work={0}) == [1]


def test_attempts_count_once_however_often_the_storage_is_asked(driver) -> None:
    """`patiently` does the same again where it was not heard that it was done."""
    mine = driver(sole_driver=True)
    for _ in range(3):
        (trial,), _ = mine.queue.take(())
        assert mine.attributes(trial.number).attempts == 1
    mine.queue.started()
    mine.take()
    assert mine.attributes(0).attempts == 2


def test_where_workers_train_only_their_deaths_count(driver) -> None:
    mine = driver(counts_attempts=False)
    (trial,), _ = mine.queue.take(())
    assert mine.attributes(0).attempts == 0
    mine.queue.put_back(trial, 1)
    assert mine.attributes(0).attempts == 1


def test_a_trial_that_is_put_back_is_anybodys(driver) -> None:
    mine, other = driver(), driver()
    (trial,), _ = mine.queue.take(())
    mine.queue.put_back(trial, 0)
    assert mine.attributes(0).lease is None
    assert other.take() == [0]
    mine.queue.put_back(trial, 7)  # too late: it is the other's now
    assert other.attributes(0).attempts == 1
    assert other.queue.leases.is_ours(other.attributes(0).lease)


@pytest.mark.parametrize("attempts", [MAX_ATTEMPTS - 1, MAX_ATTEMPTS])
def test_a_trial_is_given_up_after_so_many_deaths(driver, bench, attempts) -> None:
    driver().take()
    set_attempts(bench, 0, attempts)
    sound, given_up = driver(sole_driver=True).queue.take(())
    assert [len(sound), len(given_up)] == ([1, 0] if attempts < MAX_ATTEMPTS else [0, 1])


@pytest.mark.parametrize(("attempts", "size"), [(0, 4), (2, 4), (3, 2), (4, 1), (9, 1)])
def test_trials_at_which_processes_die_are_tried_in_ever_smaller_packs(driver, bench, attempts, size) -> None:
    assert driver(pack=4).take() == [0, 1, 2, 3]
    set_attempts(bench, 2, attempts)
    assert driver(pack=4, sole_driver=True).take() == [0, 1, 2, 3][:size]


def test_a_pack_that_was_cut_short_is_filled_up(driver) -> None:
    """As a kill between two of its trials leaves it; but not while one of them may be deadly."""
    mine = driver(pack=4)
    study = mine.study
    study.enqueue(mine.queue.schedule.next(study.trials())[0])
    keep(study.optuna_study.ask(), lease=None)
    assert driver(pack=4).take() == [0, 1, 2, 3]


def test_trials_that_may_be_deadly_are_tried_without_new_ones(driver, bench) -> None:
    driver().take()
    set_attempts(bench, 0, 3)
    assert driver(pack=4, sole_driver=True).take() == [0]
