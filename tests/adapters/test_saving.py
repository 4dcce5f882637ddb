"""Adapters as files: what is written is read back, and what is damaged is named."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rank_search.adapters import Adapter, Adapters, adapter_folder, head_weights, lora_config, lora_factors, packed
from rank_search.adapters.saving import WEIGHTS
from rank_search.config import AdapterConfig
from rank_search.core.errors import InputError
from rank_search.core.ranks import RankMap
from tests.packs import MODELS, SPACES, member

A, B, HEAD = "layer.w.lora_A.weight", "layer.w.lora_B.weight", "classifier.bias"


@pytest.fixture
def adapter() -> Adapter:
    config = lora_config(RankMap({"layer.w": 2}), AdapterConfig(alpha=3.0), head=["classifier"])
    weights = {A: torch.randn(2, 4), B: torch.randn(3, 2), HEAD: torch.randn(5)}
    return Adapter.from_weights(config, weights)


def test_names_are_pefts_in_the_file_and_the_base_models_outside(adapter) -> None:
    assert {*adapter.tensors} == {f"base_model.model.{name}" for name in (A, B, HEAD)}
    ((name, (a, b)),) = adapter.factors.items()
    assert name == "layer.w"
    assert (a.shape, b.shape) == ((2, 4), (3, 2))
    assert [*adapter.head] == [HEAD]
    assert lora_factors(adapter.tensors).keys() == {"layer.w"}
    assert head_weights(adapter.tensors).keys() == {HEAD}


def test_weights_are_copied() -> None:
    stack = torch.zeros(2, 4, 2)
    made = Adapter.from_weights(lora_config(RankMap({"w": 2}), AdapterConfig()), {"w.lora_A.weight": stack[0].T})
    stack.fill_(1)
    (copied,) = made.tensors.values()
    assert copied.is_contiguous()
    assert (copied == 0).all()


def test_what_is_saved_is_loaded(adapter, tmp_path) -> None:
    adapter.save(tmp_path / "a")
    adapter.save(tmp_path / "a")  # the folder may exist
    found = Adapter.load(tmp_path / "a")
    assert found.tensors.keys() == adapter.tensors.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in adapter.tensors.items())
    assert found.config.lora_alpha == 3
    assert found.config.rank_pattern == adapter.config.rank_pattern


def test_rewritten_keeps_the_head_alone(adapter) -> None:
    config = lora_config(RankMap({"other": 1}), AdapterConfig())
    found = adapter.rewritten(config, {"other": (torch.ones(1, 2), torch.ones(2, 1))})
    assert found.factors.keys() == {"other"}
    assert torch.equal(found.head[HEAD], adapter.head[HEAD])
    assert found.config is config


@pytest.mark.parametrize(
    ("name", "tensor"),
    [(A, None), (B, None), (A, torch.ones(3, 4)), (B, torch.ones(3)), (A, torch.ones(2, 4, 1))],
)
def test_halves_that_do_not_fit_are_named(adapter, tmp_path, name, tensor) -> None:
    adapter.save(tmp_path / "a")
    tensors = load_file(tmp_path / "a" / WEIGHTS)
    tensors.pop(f"base_model.model.{name}")
    if tensor is not None:
        tensors[f"base_model.model.{name}"] = tensor
    save_file(tensors, tmp_path / "a" / WEIGHTS)
    with pytest.raises(InputError, match=r"layer\.w\.lora_[AB]\.weight' has no fitting other half") as raised:
        Adapter.load(tmp_path / "a")
    assert str(tmp_path / "a" / WEIGHTS) in str(raised.value)


@pytest.mark.parametrize("file", [WEIGHTS, "adapter_config.json"])
def test_damaged_and_missing_files_are_named(adapter, tmp_path, file) -> None:
    adapter.save(tmp_path / "a")
    (tmp_path / "a" / file).write_bytes(b"{")
    with pytest.raises(InputError, match=r"is damaged or missing .*; restore it"):
        Adapter.load(tmp_path / "a")
    with pytest.raises(InputError, match="is damaged or missing"):
        Adapter.load(tmp_path / "nowhere")


def test_adapters_of_several_base_models_lie_in_folders_of_their_own(adapter, tmp_path) -> None:
    assert adapter_folder(Path("trial"), "") == Path("trial")
    assert adapter_folder(Path("trial"), "query.") == Path("trial/query")
    Adapters({"query.": adapter, "document.": adapter}).save(tmp_path / "a")
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"query", "document"}
    Adapters({"": adapter}).save(tmp_path / "a")  # in the place of both
    assert {path.name for path in (tmp_path / "a").iterdir()} == {WEIGHTS, "adapter_config.json"}


def test_saving_again_replaces_the_adapter(tmp_path) -> None:
    for rank in (1, 2):
        with packed(MODELS["bert"], [member(SPACES["bert"].uniform(rank))]) as pack:
            pack.adapters(0, {}).save(tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["r"] == 2
