"""Other forms of an adapter change how it is written, and nothing of what it computes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rank_search.adapters import compact, in_all_layers, lora_config, padded
from rank_search.adapters.forms import scales, served_rank
from rank_search.adapters.saving import Adapter
from rank_search.config import AdapterConfig
from rank_search.core.ranks import RankMap, Shape
from tests import peft_oracle
from tests.packs import MODELS, SPACES

SHAPES = {f"layers.{i}.{kind}": Shape(7, 5 + i) for i in range(2) for kind in ("self_attn.q_proj", "mlp.up_proj")}
RULES = st.sampled_from(["rslora", "alpha/r", "constant"])
RANKS = st.fixed_dictionaries({name: st.integers(0, 20) for name in SHAPES}).filter(lambda ranks: any(ranks.values()))


def adapter(ranks: dict[str, int], rule: str, alpha: float = 3.0) -> Adapter:
    """Random factors."""
    draw = torch.Generator().manual_seed(0)
    weights = {"score.weight": torch.ones(2, 2)}
    for name, rank in ranks.items():
        if rank:
            weights[f"{name}.lora_A.weight"] = torch.randn(rank, SHAPES[name].in_features, generator=draw)
            weights[f"{name}.lora_B.weight"] = torch.randn(SHAPES[name].out_features, rank, generator=draw)
    config = lora_config(RankMap(ranks), AdapterConfig(scale=rule, alpha=alpha), base_model="the/base", head=["score"])
    return Adapter.from_weights(config, weights)


def changes(made: Adapter) -> dict[str, torch.Tensor]:
    """Module → ΔW, by the scale that PEFT computes."""
    factors = scales(made)
    return {name: factors[name] * (b @ a) for name, (a, b) in made.factors.items()}


@given(RANKS, RULES)
def test_compact_changes_no_weight_and_has_scale_one_by_every_reading(ranks, rule) -> None:
    before = adapter(ranks, rule)
    after = compact(before)
    assert scales(after) == pytest.approx(dict.fromkeys(after.factors, 1.0))
    expected = changes(before)
    for name, change in changes(after).items():
        assert torch.allclose(change, expected[name], rtol=1e-4, atol=1e-4)
    config = after.config
    assert config.lora_alpha == config.r == max(ranks.values())
    assert [*config.rank_pattern.values()] == [*config.alpha_pattern.values()] == [r for r in ranks.values() if r]
    assert config.base_model_name_or_path == "the/base"
    assert torch.equal(after.head["score.weight"], before.head["score.weight"])


@given(RANKS, RULES)
def test_padded_has_one_rank_in_all_modules_and_changes_no_weight(ranks, rule) -> None:
    before = adapter(ranks, rule)
    after = padded(before, SHAPES)
    rank = served_rank(max(ranks.values()))
    assert {(len(a), b.shape[1]) for a, b in after.factors.values()} == {(rank, rank)}
    assert after.config.r == after.config.lora_alpha == rank
    assert not after.config.rank_pattern
    assert not after.config.alpha_pattern
    expected = changes(before)
    for name, change in changes(after).items():
        wanted = expected.get(name, torch.zeros(SHAPES[name].out_features, SHAPES[name].in_features))
        assert torch.allclose(change, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rule", ["rslora", "alpha/r", "constant"])
def test_scales_are_those_of_pefts_layers(rule) -> None:
    names = [*SPACES["bert"].shapes][:4]
    ranks = RankMap(dict(zip(names, (1, 2, 5, 8), strict=True)))
    config = AdapterConfig(scale=rule, alpha=6.0)
    with peft_oracle.adapted(MODELS["bert"], ranks, config):
        expected = {n: layer.scaling["default"] for n, layer in peft_oracle.lora_layers(MODELS["bert"]).items()}
        found = peft_oracle.tensors(MODELS["bert"])
    weights = {
        f"{name}.lora_{letter}.weight": w for name, ab in found.items() for letter, w in zip("AB", ab, strict=True)
    }
    assert scales(Adapter.from_weights(lora_config(ranks, config), weights)) == pytest.approx(expected)


@given(st.integers(1, 400))
def test_served_rank_is_the_least_that_servers_take(rank) -> None:
    found = served_rank(rank)
    assert found == 8 or found % 16 == 0
    assert found >= rank
    assert found == 8 or found - rank < 16
    assert served_rank(found) == found


def test_modules_that_servers_stack_are_adapted_together() -> None:
    kinds = ("attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.o_proj", "mlp.gate_proj", "mlp.up_proj")
    modules = ["embed", *(f"layers.{i}.{kind}" for i in range(2) for kind in kinds), "lm_head"]
    assert in_all_layers(["layers.1.attn.o_proj"], modules) == ["layers.0.attn.o_proj", "layers.1.attn.o_proj"]
    assert in_all_layers(["layers.0.attn.k_proj", "lm_head"], modules) == [
        *(f"layers.{i}.attn.{letter}_proj" for i in range(2) for letter in "qkv"),
        "lm_head",
    ]
    assert in_all_layers(["layers.0.mlp.up_proj"], modules) == [
        f"layers.{i}.mlp.{kind}_proj" for i in range(2) for kind in ("gate", "up")
    ]
    assert in_all_layers([], modules) == []
