"""Packs of adapters against plain PEFT: what they start with, compute and save; and the model after them."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel

from rank_search.adapters import loaded, packed
from rank_search.config import AdapterConfig
from rank_search.core.ranks import RankMap
from tests import peft_oracle
from tests.packs import ARCHITECTURES, MODELS, SPACES, member, output, rank_map, starting_a
from tests.small_models import filled, small_model


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.sampled_from(ARCHITECTURES), st.integers(1, 3), st.data())
def test_fresh_pack_changes_nothing_and_counts_as_peft_does(architecture, maps, data) -> None:
    model, space = MODELS[architecture], SPACES[architecture]
    drawn = [RankMap({name: data.draw(st.integers(0, 4), label=name) for name in space.shapes}) for _ in range(maps)]
    before = output(model, maps)
    with packed(model, [member(ranks, seed=k) for k, ranks in enumerate(drawn)]) as pack:
        if maps == 1:
            assert torch.equal(output(model), before)
        else:  # fewer rows pass the lower layers, so sums may be taken in another order
            assert torch.allclose(output(model, maps), before, atol=1e-6)
        for k, ranks in enumerate(drawn):
            adapters = pack.adapters(k, {}).by_prefix.values()
            stored = sum(weight.numel() for adapter in adapters for weight in adapter.tensors.values())
            assert stored == space.parameters(ranks)
    assert torch.equal(output(model, maps), before)
    for ranks in drawn:
        if ranks.adapted:
            transposed = architecture == "gpt2"
            with peft_oracle.adapted(model, ranks, AdapterConfig(), fan_in_fan_out=transposed) as peft_model:
                assert peft_model.get_nb_trainable_parameters()[0] == space.parameters(ranks)
                found = {name: layer.r["default"] for name, layer in peft_oracle.lora_layers(model).items()}
                assert found == ranks.adapted


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_saved_adapter_of_a_pack_loads_by_plain_peft(architecture, tmp_path) -> None:
    model = MODELS[architecture]
    maps = [rank_map(architecture, k) for k in range(3)]
    with packed(model, [member(ranks, seed=k) for k, ranks in enumerate(maps)]) as pack:
        filled(pack)
        together = output(model, 3).chunk(3)
        for k in range(3):
            pack.adapters(k, {"": "the/base"}).save(tmp_path / str(k))
    for k, ranks in enumerate(maps):
        written = json.loads((tmp_path / str(k) / "adapter_config.json").read_text())
        assert written["base_model_name_or_path"] == "the/base"
        assert len(written["rank_pattern"]) == len(ranks.adapted)
        fresh = small_model(architecture)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", lambda *args, **kwargs: None)  # transformers' own deprecations
            plain = PeftModel.from_pretrained(fresh, tmp_path / str(k))
        assert torch.allclose(output(plain), together[k], atol=1e-5)
        assert not torch.allclose(output(model), together[k], atol=1e-4)
        with loaded(model, tmp_path / str(k)):
            assert torch.equal(output(model), output(plain))


def test_gaussian_init_has_the_std_asked_for() -> None:
    values = torch.cat([a.flatten() for a in starting_a({"method": "gaussian", "std": 0.05}).values()])
    assert values.std().item() == pytest.approx(0.05, rel=0.1)


def test_kaiming_init_is_pefts_law() -> None:
    for a in starting_a({"method": "kaiming"}).values():
        bound = a.shape[1] ** -0.5
        assert 0.9 * bound < a.abs().max() <= bound
        assert a.std().item() == pytest.approx(bound / 3**0.5, rel=0.2)


@pytest.mark.parametrize("method", ["gaussian", "kaiming"])
def test_seed_decides_the_start(method) -> None:
    one, same, other = (starting_a({"method": method}, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)


def test_pack_that_fails_half_way_leaves_nothing_behind(monkeypatch) -> None:
    model, space = MODELS["llama"], SPACES["llama"]
    before, modules = output(model), [type(module) for module in model.modules()]
    made = []

    def failing(*arguments):
        made.append(arguments)
        if len(made) == 4:
            raise MemoryError("out of memory")
        return torch.zeros(*arguments)

    monkeypatch.setattr("rank_search.adapters.layers._zeros", failing)
    with pytest.raises(MemoryError), packed(model, [member(space.uniform(1))]):
        pass
    assert [type(module) for module in model.modules()] == modules
    assert torch.equal(output(model), before)
