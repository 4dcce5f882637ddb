"""What all tasks' evaluations have in common."""

import pytest
import torch
from torch import nn


@pytest.mark.parametrize("name", ["classification", "generation", "rag"])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_size_is_that_of_what_is_scored(name, split, request) -> None:
    task = request.getfixturevalue(name)
    (found,) = task.evaluate(split)
    assert task.size(split) == len(found.values[found.metric])


def test_documents_count_beside_queries(small_task) -> None:
    (found,) = small_task.evaluate("test")
    assert small_task.size("test") > len(found.values[found.metric])


@pytest.mark.parametrize("name", ["classification", "generation", "rag", "small_task"])
def test_no_gradient_is_kept(name, request) -> None:
    task = request.getfixturevalue(name)
    seen: list[bool] = []

    def hook(*_) -> None:
        seen.append(torch.is_inference_mode_enabled())

    handles = [
        module.register_forward_hook(hook) for module in task.backbone.modules() if isinstance(module, nn.Linear)
    ]
    task.evaluate("validation")
    for handle in handles:
        handle.remove()
    assert seen
    assert all(seen)
