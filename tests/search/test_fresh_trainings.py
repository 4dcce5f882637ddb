import pytest

from rank_search.core.candidate import Candidate
from rank_search.core.errors import TrainingFailed
from rank_search.executors.protocol import Serial
from rank_search.search.fresh_trainings import FreshTrainings
from tests.bench import SPACE, Landscape
from tests.search.test_loop import Killed

MAPS = [Candidate(SPACE.uniform(rank)) for rank in (1, 2)]


def trained(bench, executor, maps=MAPS, seeds=3) -> FreshTrainings:
    trainings = FreshTrainings(bench.handle(), 0)
    trainings.run(maps, seeds, Serial(executor.train), lambda _done, _of: None)
    return trainings


def test_candidates_share_batches_and_seed_which_nothing_else_has(bench) -> None:
    executor = Landscape()
    study_seeds = Landscape()
    bench.search(8, study_seeds)
    trained(bench, executor)
    assert [job.rank_map for job in executor.jobs] == [candidate.rank_map for candidate in MAPS] * 3
    pairs = [(job.seed, job.data_seed) for job in executor.jobs]
    assert pairs[0::2] == pairs[1::2]
    assert len(set(pairs)) == 3
    used = {number for job in study_seeds.jobs for number in (job.seed, job.data_seed)}
    assert not used & {number for pair in pairs for number in pair}
    assert {job.split for job in executor.jobs} == {"test"}


def test_what_is_on_record_is_not_trained_again(bench) -> None:
    with pytest.raises(Killed):
        trained(bench, Landscape({3: Killed()}))
    executor = Landscape()
    trainings = trained(bench, executor)
    assert len(executor.jobs) == 4  # the pack that was killed, and the one after it
    assert trainings.is_done(MAPS, 3)
    again = Landscape()
    trained(bench, again)
    assert again.jobs == []


def test_a_map_with_two_roles_is_trained_once(bench) -> None:
    executor = Landscape()
    trained(bench, executor, [MAPS[0], MAPS[0]])
    assert len(executor.jobs) == 3


def test_more_seeds_later_add_to_those_before(bench) -> None:
    trained(bench, Landscape(), seeds=1)
    executor = Landscape()
    trained(bench, executor, seeds=3)
    assert len(executor.jobs) == 4


def test_settings_are_part_of_a_candidate(bench) -> None:
    tuned = Candidate(SPACE.uniform(1), {"alpha": 8.0})
    assert tuned.key != MAPS[0].key
    executor = Landscape()
    trained(bench, executor, [MAPS[0], tuned])
    assert len(executor.jobs) == 6
    assert executor.jobs[1].settings == {"alpha": 8.0}


def test_a_failure_is_on_record_with_its_reason(bench) -> None:
    class Failing(Landscape):
        def train(self, jobs, on_step):
            return [TrainingFailed("no memory")] * len(jobs)

    trainings = trained(bench, Failing())
    assert trainings.is_done(MAPS, 3)
    assert [result["reason"] for result in bench.folder.read_confirmations(MAPS[0].key)] == ["no memory"] * 3
