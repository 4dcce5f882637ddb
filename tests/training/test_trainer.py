import json
import re

import pytest
import torch

from rank_search.adapters import loaded
from rank_search.core.errors import TrainingFailed
from rank_search.core.ranks import RankMap
from rank_search.training.trainer import fine_tune
from tests.bench import study_config
from tests.jobs import job_for

pytestmark = pytest.mark.training

TRAINING = {"steps": 30, "batch_size": 4, "precision": "float32", "learning_rate": 1e-2}


def train(task, rank_map, *, seed=0, data_seed=0, training=None, adapter=None, **options):
    config = study_config(training={**TRAINING, **(training or {})}, adapter={"alpha": 4.0, **(adapter or {})})
    (outcome,) = fine_tune(task, [job_for(rank_map, seed, data_seed)], config, sources={"": "the/base"}, **options)
    return outcome


def test_training_lowers_the_loss_and_raises_the_score(small_task, small_space) -> None:
    (before,) = small_task.evaluate("validation")
    reports: list[tuple[int, float]] = []
    result = train(small_task, small_space.uniform(4), on_step=lambda *step: reports.append(step))
    assert reports == list(enumerate(result.losses, start=1))
    assert len(reports) == 30
    assert sum(result.losses[-5:]) < 0.7 * sum(result.losses[:5])
    assert result.evaluation.score > before.score


def test_base_model_is_left_as_it_was(small_task, small_space) -> None:
    weights = {name: weight.clone() for name, weight in small_task.backbone.state_dict().items()}
    (before,) = small_task.evaluate("validation")
    train(small_task, small_space.uniform(2))
    after = small_task.backbone.state_dict()
    assert after.keys() == weights.keys()
    assert all(torch.equal(after[name], weight) for name, weight in weights.items())
    assert small_task.evaluate("validation")[0].values == before.values


def test_seeds_decide_the_result(small_task, small_space) -> None:
    rank_map = small_space.uniform(2)
    one = train(small_task, rank_map, seed=1, data_seed=1).losses
    torch.rand(5)  # draws elsewhere don't matter
    assert train(small_task, rank_map, seed=1, data_seed=1).losses == one
    assert train(small_task, rank_map, seed=2, data_seed=1).losses != one
    assert train(small_task, rank_map, seed=1, data_seed=2).losses != one


def test_training_leaves_the_random_state_alone(small_task, small_space) -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    train(small_task, small_space.uniform(1))
    assert torch.equal(torch.rand(3), expected)


def test_map_of_zeros_is_scored_without_training(small_task, small_space) -> None:
    result = train(small_task, small_space.uniform(0))
    assert result.losses == ()
    assert result.save_adapter is None
    assert result.evaluation.values == small_task.evaluate("validation")[0].values


def test_modules_with_rank_zero_get_no_tensors(small_task, small_space, tmp_path) -> None:
    some = dict.fromkeys(list(small_space.shapes)[:3], 2)
    result = train(small_task, RankMap({**small_space.uniform(0).ranks, **some}))
    result.save_adapter(tmp_path / "adapter")
    written = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert len(written["rank_pattern"]) == 3


def test_dropout_is_on_in_training_and_off_in_evaluation(small_task, small_space, tmp_path) -> None:
    rank_map = small_space.uniform(4)
    wet = train(small_task, rank_map, adapter={"dropout": 0.5})
    assert wet.losses != train(small_task, rank_map).losses
    wet.save_adapter(tmp_path / "adapter")
    with loaded(small_task.backbone, tmp_path / "adapter"):
        assert small_task.evaluate("validation")[0].score == pytest.approx(wet.evaluation.score, abs=1e-6)


def test_non_finite_loss_fails_with_its_reason(small_task, small_space) -> None:
    modules = [type(module) for module in small_task.backbone.modules()]
    failed = train(small_task, small_space.uniform(4), training={"learning_rate": 1e30})
    assert isinstance(failed, TrainingFailed)
    assert re.match(r"the loss is nan at step \d+; lower the learning rate", str(failed))
    assert [type(module) for module in small_task.backbone.modules()] == modules


def test_bfloat16_learns_and_leaves_the_weights_as_they_were(small_task, small_space) -> None:
    weights = {name: weight.clone() for name, weight in small_task.backbone.state_dict().items()}
    exact = train(small_task, small_space.uniform(4))
    result = train(small_task, small_space.uniform(4), training={"precision": "bfloat16"})
    assert sum(result.losses[-5:]) < 0.8 * sum(result.losses[:5])
    assert result.losses != exact.losses
    assert result.losses[0] == pytest.approx(exact.losses[0], rel=1e-2)
    after = small_task.backbone.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in weights.items())
