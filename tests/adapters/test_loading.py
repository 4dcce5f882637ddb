"""Saved adapters in their base models, and the base models after them."""

import pytest
import torch
from torch import nn

from rank_search.adapters import loaded, packed
from rank_search.adapters.saving import WEIGHTS
from rank_search.core.ranks import RankMap
from tests.packs import SPACES, member, output
from tests.small_models import filled, small_model

UNIFORM = SPACES["bert"].uniform(2)


def save(backbone: nn.Module, ranks: RankMap, folder, head=()) -> None:
    with packed(backbone, [member(ranks)], head) as pack:
        filled(pack)
        for name, tensor in pack.state().items():
            if name.endswith(".bias"):
                tensor.add_(1)
        pack.adapters(0, {}).save(folder)


@pytest.fixture
def model() -> nn.Module:
    return small_model("bert").requires_grad_(False)


def modules(model: nn.Module) -> list[tuple[str, int]]:
    return [(name, id(module)) for name, module in model.named_modules()]


def test_model_is_its_own_again_with_its_head(model, tmp_path) -> None:
    save(model, UNIFORM, tmp_path / "a", head=("classifier",))
    before, originals = output(model), modules(model)
    with loaded(model, tmp_path / "a"):
        assert not torch.allclose(output(model), before, atol=1e-3)
    assert modules(model) == originals
    assert torch.equal(output(model), before)
    assert not any(weight.requires_grad for weight in model.parameters())


def test_model_is_its_own_again_after_an_error(model, tmp_path) -> None:
    save(model, UNIFORM, tmp_path / "a")
    originals = modules(model)
    with pytest.raises(RuntimeError, match="of the caller"), loaded(model, tmp_path / "a"):
        raise RuntimeError("of the caller")
    assert modules(model) == originals
    (tmp_path / "a" / WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(Exception, match="header"), loaded(model, tmp_path / "a"):
        pass
    assert modules(model) == originals


def test_each_base_model_gets_the_adapter_of_its_folder(tmp_path) -> None:
    """A base model without a folder is left as it is."""
    both = nn.ModuleDict({"left": small_model("bert"), "right": small_model("bert")}).requires_grad_(False)
    save(both, RankMap({f"left.{name}": 2 for name in UNIFORM.ranks}), tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["left"]
    before = output(both["right"])
    with loaded(both, tmp_path / "a"):
        assert torch.equal(output(both["right"]), before)
        assert not torch.allclose(output(both["left"]), before, atol=1e-3)
