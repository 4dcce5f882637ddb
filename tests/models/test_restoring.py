"""A shared model is put back as it was, whatever was done to it."""

import pytest
import torch
from torch import nn

from rank_search.core.errors import OutOfService
from rank_search.models.restoring import restored
from tests.small_models import small_model


def state(model: nn.Module) -> list[tuple]:
    """All that a recipe can change in a model, module by module."""
    return [
        (
            name,
            type(module),
            module.training,
            [*module._modules],
            [(key, id(weight), weight.requires_grad) for key, weight in module._parameters.items()],
            {key: len(value) for key, value in vars(module).items() if key.endswith("_hooks")},
            sorted(vars(module)),
        )
        for name, module in model.named_modules()
    ]


def break_everything(model: nn.Module) -> None:
    """What a library that fails in the middle may leave behind."""
    model.train()
    for module in [*model.modules()]:
        module.register_forward_hook(lambda *_: pytest.fail("a hook was left behind"))
        module.register_forward_pre_hook(lambda *_: pytest.fail("a hook was left behind"))
        module.register_full_backward_hook(lambda *_: None)
    for weight in model.parameters():
        weight.requires_grad_(True)
        weight.grad = torch.ones_like(weight)
    layer = model.bert.encoder.layer[0]
    layer.attention.self.query = nn.Linear(32, 32)
    layer.extra = nn.Linear(2, 2)
    del layer.output
    layer.__class__ = nn.Module
    model.forward = None
    model.peft_config = {"a": 1}
    model.config.use_cache = not model.config.use_cache
    model.config.added = 1


@pytest.mark.parametrize("fails", [False, True])
def test_model_is_as_it_was(fails) -> None:
    model = small_model("bert").requires_grad_(False)
    before, config, ids = state(model), model.config.to_dict(), torch.tensor([[5, 6, 7]])
    expected = model(ids).logits
    try:
        with restored(model):
            break_everything(model)
            if fails:
                raise RuntimeError("in the middle")
    except RuntimeError:
        assert fails
    assert state(model) == before
    assert model.config.to_dict() == config
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.equal(model(ids).logits, expected)


def test_handle_of_a_hook_that_stays_still_removes_it() -> None:
    """Hooks of before the block are kept in the same dictionary, which their handles know."""
    model = small_model("bert")
    calls = []
    handle = model.register_forward_pre_hook(lambda *_: calls.append(1))
    with restored(model):
        model._forward_pre_hooks.clear()
    model(torch.tensor([[5]]))
    handle.remove()
    model(torch.tensor([[5]]))
    assert calls == [1]


def test_changed_weight_stops_the_run() -> None:
    model = small_model("bert").requires_grad_(False)
    with (
        pytest.raises(OutOfService, match=r"a training has changed 'bert\.embeddings\.word_embeddings\.weight'"),
        restored(model),
    ):
        model.bert.embeddings.word_embeddings.weight.add_(1)
