import pytest
import torch

from rank_search.adapters import Member, packed
from rank_search.core.ranks import RankMap
from rank_search.training.supernet import Supernet
from tests.bench import study_config
from tests.training.test_trainer import TRAINING

pytestmark = pytest.mark.training

LADDER = {"ladder": [0, 1, 2, 4], "group_by": "block"}


def made(task, space, folder, steps: int = 12) -> Supernet:
    config = study_config(training={**TRAINING, "steps": steps}, adapter={"alpha": 4.0}, space=LADDER)
    return Supernet(task, space, config, folder / "nested.safetensors")


@pytest.fixture
def trained(small_task, small_space, tmp_path) -> Supernet:
    nested = made(small_task, small_space, tmp_path)
    nested.train(1, 0, lambda done, of: None)
    return nested


def test_a_score_is_that_of_the_truncated_adapter(small_task, small_space, trained) -> None:
    names = list(small_space.shapes)
    maps = [small_space.uniform(4), RankMap({name: (0, 1, 2)[i % 3] for i, name in enumerate(names)})]
    found = trained.score([*maps, small_space.uniform(0)])
    for ranks, score in zip(maps, found[:2], strict=True):
        member = Member(ranks, study_config(adapter={"alpha": 4.0}).adapter, 0, trained.adapter_init())
        with packed(small_task.backbone, [member]):
            assert small_task.evaluate("validation")[0].score == pytest.approx(score, abs=1e-5)
    assert found[2] == pytest.approx(small_task.evaluate("validation")[0].score, abs=1e-5)
    assert len(set(found)) == 3


def test_training_helps_small_and_large_maps(small_task, small_space, tmp_path) -> None:
    nested = made(small_task, small_space, tmp_path, steps=40)
    nested.train(0, 0, lambda done, of: None)
    before = small_task.evaluate("validation")[0].score
    assert min(nested.score([small_space.uniform(1), small_space.uniform(4)])) > before
    energies = nested.energies()
    assert all(len(weights) == 4 and min(weights) > 0 for weights in energies.values())


def test_trained_adapter_is_not_trained_again(trained) -> None:
    trained.train(1, 0, lambda done, of: pytest.fail("a step was taken"))


class Killed(BaseException):
    pass


def test_killed_training_goes_on_from_its_checkpoint(small_task, small_space, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("rank_search.training.supernet._CHECKPOINT_SECONDS", 0.0)
    (tmp_path / "whole").mkdir()
    whole = made(small_task, small_space, tmp_path / "whole")
    whole.train(1, 0, lambda done, of: None)
    (tmp_path / "broken").mkdir()
    steps: list[int] = []

    def step(done: int, of: int) -> None:
        steps.append(done)
        if done in (3, 7) and steps.count(done) == 1:
            raise Killed

    for _ in range(2):
        with pytest.raises(Killed):
            made(small_task, small_space, tmp_path / "broken").train(1, 0, step)
    resumed = made(small_task, small_space, tmp_path / "broken")
    resumed.train(1, 0, step)
    assert steps == list(range(1, 13))
    ours, wanted = resumed.adapter_init().factors, whole.adapter_init().factors
    assert all(torch.equal(ours[name][i], wanted[name][i]) for name in wanted for i in (0, 1))


def test_each_step_trains_the_smallest_the_largest_and_maps_by_chance(small_space, trained) -> None:
    sizes = []
    for step in range(200):
        largest, smallest, *drawn = trained._sandwich(0, step)
        assert largest == small_space.uniform(4)
        assert smallest == small_space.uniform(1)
        sizes += [small_space.parameters(ranks) for ranks in drawn]
    assert len(sizes) == 400
    most = small_space.most_parameters
    assert sum(size < most / 4 for size in sizes) > 80  # small maps come up, too
    assert sum(size > most / 2 for size in sizes) > 80
