import pytest

from rank_search.core.errors import TrainingFailed
from rank_search.executors.protocol import Serial
from rank_search.search.contender import Contender
from rank_search.search.fresh_trainings import Confirmation
from tests.bench import SPACE, Landscape
from tests.search.test_loop import Killed

MAPS = [Contender(SPACE.uniform(rank), {}) for rank in (1, 2)]


def confirmed(bench, executor, maps=MAPS, seeds=3) -> Confirmation:
    confirmation = Confirmation(bench.folder, 0, seeds)
    confirmation.run(maps, Serial(executor.train), lambda _done, _of: None)
    return confirmation


def test_contenders_share_batches_and_seed_which_nothing_else_has(bench) -> None:
    executor = Landscape()
    study_seeds = Landscape()
    bench.search(8, study_seeds)
    confirmed(bench, executor)
    assert [job.rank_map for job in executor.jobs] == [of.rank_map for of in MAPS] * 3
    pairs = [(job.seed, job.data_seed) for job in executor.jobs]
    assert pairs[0::2] == pairs[1::2]
    assert len(set(pairs)) == 3
    used = {number for job in study_seeds.jobs for number in (job.seed, job.data_seed)}
    assert not used & {number for pair in pairs for number in pair}
    assert {job.split for job in executor.jobs} == {"test"}


def test_what_is_on_record_is_not_trained_again(bench) -> None:
    with pytest.raises(Killed):
        confirmed(bench, Landscape({3: Killed()}))
    executor = Landscape()
    confirmation = confirmed(bench, executor)
    assert len(executor.jobs) == 4  # the pack that was killed, and the one after it
    assert confirmation.is_done(MAPS)
    again = Landscape()
    confirmed(bench, again)
    assert again.jobs == []


def test_a_map_with_two_roles_is_trained_once(bench) -> None:
    executor = Landscape()
    confirmed(bench, executor, [MAPS[0], MAPS[0]])
    assert len(executor.jobs) == 3


def test_more_seeds_later_add_to_those_before(bench) -> None:
    confirmed(bench, Landscape(), seeds=1)
    executor = Landscape()
    confirmed(bench, executor, seeds=3)
    assert len(executor.jobs) == 4


def test_settings_are_part_of_a_contender(bench) -> None:
    tuned = Contender(SPACE.uniform(1), {"alpha": 8.0})
    assert tuned.name != MAPS[0].name
    executor = Landscape()
    confirmed(bench, executor, [MAPS[0], tuned])
    assert len(executor.jobs) == 6
    assert executor.jobs[1].settings == {"alpha": 8.0}


def test_a_failure_is_on_record_with_its_reason(bench) -> None:
    class Failing(Landscape):
        def train(self, jobs, on_step, rungs):
            return [TrainingFailed("no memory")] * len(jobs)

    confirmation = confirmed(bench, Failing())
    assert confirmation.is_done(MAPS)
    assert [result["reason"] for result in bench.folder.read_confirmations(MAPS[0].name)] == ["no memory"] * 3
