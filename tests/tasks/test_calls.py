"""Modules that never run for a task."""

from types import SimpleNamespace

import torch
from torch import nn

from rank_search.tasks.calls import uncalled_modules
from tests.small_models import retrieval_task


class Mixture(nn.Module):
    """Two layers of three experts, of which a router uses the first; and a tower for other inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleDict({"experts": nn.ModuleList(nn.Linear(2, 2) for _ in range(3)), "idle": nn.Linear(2, 2)})
            for _ in range(2)
        )
        self.tower = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(2, 2)])})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer["experts"][0](x)
        return x


def task_of(model: nn.Module) -> SimpleNamespace:
    return SimpleNamespace(
        backbone=model,
        training_batches=lambda steps, _seed: iter([torch.ones(1, 2)] * steps),
        loss=lambda batch: model(batch).sum(),
    )


def test_what_no_batch_calls_is_named_and_experts_stand_for_each_other() -> None:
    model = Mixture()
    found = uncalled_modules(task_of(model))
    assert found == dict.fromkeys(["layers.0.idle", "layers.1.idle", "tower.layers.0"], "is never called for this task")
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_hooks_are_removed_if_the_model_fails() -> None:
    model = Mixture()
    task = task_of(model)
    task.loss = lambda _batch: 1 / 0
    try:
        uncalled_modules(task)
    except ZeroDivisionError:
        assert not any(module._forward_pre_hooks for module in model.modules())


def test_every_layer_of_an_encoder_is_called() -> None:
    assert uncalled_modules(retrieval_task()) == {}
