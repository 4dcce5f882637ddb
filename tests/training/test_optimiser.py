"""The optimiser of an adapter, against AdamW in a plain loop."""

import pytest
import torch
from torch import nn
from transformers import get_linear_schedule_with_warmup

from rank_search.adapters import TrainableParameters
from rank_search.training.optimiser import AdapterOptimiser
from tests.bench import study_config


def training(**changes):
    """Settings that a study file may hold, and a head's learning rate, which needs a task with a head."""
    settings = study_config(training={"steps": 10, "learning_rate": 0.1, "warmup": 0.2}).training
    return settings.model_copy(update=changes)


def parameters() -> list[TrainableParameters]:
    """Two base models, the second with a head."""
    draw = torch.Generator().manual_seed(0)
    weights = [nn.Parameter(torch.randn(3, 2, generator=draw)) for _ in range(4)]
    return [TrainableParameters(weights[:2]), TrainableParameters(weights[2:3], weights[3:])]


def weights_of(parts: list[TrainableParameters]) -> list[nn.Parameter]:
    return [weight for part in parts for weight in part.all]


def backward(weights: list[nn.Parameter], step: int) -> None:
    sum(((weight - step) ** 2).sum() * (1 + i) for i, weight in enumerate(weights)).backward()


def test_steps_are_those_of_a_plain_loop() -> None:
    """Gradients are clipped for each base model by itself."""
    settings = training(max_grad_norm=0.5, weight_decay=0.1, head_learning_rate=0.01)
    ours, plain = parameters(), parameters()
    optimiser = AdapterOptimiser(ours, settings)
    groups = [
        {"params": [*plain[0].adapter, *plain[1].adapter], "lr": 0.1},
        {"params": [*plain[1].head], "lr": 0.01},
    ]
    adamw = torch.optim.AdamW(groups, weight_decay=0.1)
    schedule = get_linear_schedule_with_warmup(adamw, 2, 10)
    for step in range(10):
        backward(weights_of(ours), step)
        optimiser.step()
        adamw.zero_grad()
        backward(weights_of(plain), step)
        for part in plain:
            nn.utils.clip_grad_norm_(part.all, 0.5)
        adamw.step()
        schedule.step()
    for found, wanted in zip(weights_of(ours), weights_of(plain), strict=True):
        assert torch.allclose(found, wanted, atol=1e-5)


def test_learning_rate_rises_then_falls_to_zero() -> None:
    optimiser = AdapterOptimiser(parameters(), training(head_learning_rate=0.05))
    rates = [optimiser.learning_rates]
    for _ in range(10):
        optimiser.step()
        rates.append(optimiser.learning_rates)
    adapter = [rate for rate, _ in rates]
    assert adapter[:3] == pytest.approx([0.0, 0.05, 0.1])
    assert adapter[2:] == sorted(adapter[2:], reverse=True)
    assert adapter[-1] == 0
    assert all(head == pytest.approx(rate / 2) for rate, head in rates)


def test_warm_up_leaves_a_step_to_train() -> None:
    """Else one step at the rate 0 would be all."""
    optimiser = AdapterOptimiser(parameters(), training(steps=1, warmup=0.99))
    assert optimiser.learning_rates[0] == pytest.approx(0.1)


def test_gradients_stay_in_their_place_and_are_seen_before_they_are_zeroed() -> None:
    """They are views of a stack that all maps of a pack share."""
    parts = parameters()
    optimiser = AdapterOptimiser(parts, training())
    backward(weights_of(parts), 1)
    places = [weight.grad.data_ptr() for weight in weights_of(parts)]
    seen = []
    optimiser.step(lambda: seen.extend(bool(weight.grad.any()) for weight in weights_of(parts)))
    assert seen == [True] * 4
    assert [weight.grad.data_ptr() for weight in weights_of(parts)] == places
    assert not any(weight.grad.any() for weight in weights_of(parts))
