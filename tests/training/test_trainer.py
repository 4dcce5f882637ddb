import json

import pytest
import torch

from rank_search.adapters import adapted, lora_layers
from rank_search.config import AdapterConfig, TrainingConfig
from rank_search.ranks import RankMap
from rank_search.training.result import Job, TrainingFailed
from rank_search.training.trainer import autocast, fine_tune

TRAINING = TrainingConfig(steps=30, batch_size=4, autocast="off", learning_rate=1e-2)
ADAPTER = AdapterConfig(alpha=4.0)


def train(task, rank_map, *, seed=0, data_seed=0, training=TRAINING, adapter=ADAPTER, **options):
    return fine_tune(task, Job(rank_map, seed, data_seed), adapter, training, sources={"": "the/base"}, **options)


def test_training_lowers_the_loss_and_raises_the_score(small_task, small_space) -> None:
    before = small_task.evaluate("validation")
    steps: list[int] = []
    result = train(small_task, small_space.uniform(4), on_step=steps.append)
    assert len(result.losses) == 30
    assert steps == list(range(1, 31))
    assert sum(result.losses[-5:]) < 0.7 * sum(result.losses[:5])
    assert result.evaluation.score > before.score


def test_base_model_is_left_as_it_was(small_task, small_space) -> None:
    weights = {name: weight.clone() for name, weight in small_task.backbone.state_dict().items()}
    before = small_task.evaluate("validation")
    train(small_task, small_space.uniform(2))
    after = small_task.backbone.state_dict()
    assert after.keys() == weights.keys()
    assert all(torch.equal(after[name], weight) for name, weight in weights.items())
    assert small_task.evaluate("validation").values == before.values


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
    assert result.evaluation.values == small_task.evaluate("validation").values


def test_modules_with_rank_zero_get_no_tensors(small_task, small_space, tmp_path) -> None:
    some = dict.fromkeys(list(small_space.shapes)[:3], 2)
    result = train(small_task, RankMap({**small_space.uniform(0).ranks, **some}))
    result.save_adapter(tmp_path / "adapter")
    written = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert len(written["rank_pattern"]) == 3


def test_dropout_is_on_in_training_and_off_in_evaluation(small_task, small_space) -> None:
    rank_map = small_space.uniform(4)
    wet = train(small_task, rank_map, adapter=AdapterConfig(alpha=4.0, dropout=0.5))
    assert wet.losses != train(small_task, rank_map).losses
    with adapted(small_task.backbone, rank_map, AdapterConfig(dropout=0.5), seed=0):
        for layer in lora_layers(small_task.backbone).values():
            torch.nn.init.normal_(layer.lora_B["default"].weight)
        assert small_task.evaluate("validation").values == small_task.evaluate("validation").values


def test_non_finite_loss_fails_with_its_reason(small_task, small_space) -> None:
    wild = TRAINING.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(TrainingFailed, match=r"the loss is nan at step \d+; lower the learning rate"):
        train(small_task, small_space.uniform(4), training=wild)
    assert not lora_layers(small_task.backbone)


def test_autocast_learns(small_task, small_space) -> None:
    """Were autocast entered once around the loop, its cached weights would never change and neither would B's use."""
    bf16 = TRAINING.model_copy(update={"autocast": "bf16"})
    result = train(small_task, small_space.uniform(4), training=bf16)
    assert sum(result.losses[-5:]) < 0.8 * sum(result.losses[:5])


def test_autocast_follows_the_device(monkeypatch) -> None:
    cpu = torch.device("cpu")
    for has, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda has=has: {"avx512_bf16": has})
        with autocast("auto", cpu):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected
    with autocast("off", cpu):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
