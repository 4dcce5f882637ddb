import json
from dataclasses import asdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import MixtralConfig, MixtralForCausalLM

from rank_search.core.errors import InputError
from rank_search.core.ranks import RankMap
from rank_search.core.space import Space
from rank_search.models.modules import build_space
from rank_search.tasks.load import load_skeleton
from tests.bench import study_config
from tests.small_models import small_model


def space_of(architecture: str, **settings):
    return build_space(
        small_model(architecture), study_config(space={"ladder": [0, 1, 2, 4, 8], "group_by": "layer", **settings})
    )


@pytest.mark.parametrize(
    ("architecture", "layer", "linear", "attention"),
    [("bert", "bert.encoder.layer.0", 6, 4), ("llama", "model.layers.0", 7, 4), ("gpt2", "transformer.h.0", 4, 2)],
)
def test_groups(architecture, layer, linear, attention) -> None:
    by_layer = space_of(architecture, group_by="layer").dimensions
    assert list(by_layer) == [layer, layer.replace("0", "1")]
    assert len(by_layer[layer]) == linear
    by_block = space_of(architecture, group_by="block").dimensions
    assert len(by_block[f"{layer}/attention"]) == attention
    assert len(by_block[f"{layer}/feed-forward"]) == linear - attention
    by_module = space_of(architecture, group_by="module").dimensions
    assert list(by_module.values()) == [(name,) for name in by_module]
    assert len(by_module) == 2 * linear


def test_gpt2_shapes_are_in_then_out() -> None:
    shapes = space_of("gpt2").shapes
    assert shapes["transformer.h.0.attn.c_attn"] == (32, 96)
    assert shapes["transformer.h.0.mlp.c_proj"] == (128, 32)


def test_pooler_and_heads_are_adapted_only_when_named() -> None:
    for architecture in ("bert", "llama", "gpt2"):
        assert not any(
            "pooler" in name or "head" in name or "classifier" in name for name in space_of(architecture).shapes
        )
    space = space_of("bert", targets=["pooler.dense", "query"])
    assert list(space.shapes) == [
        "bert.encoder.layer.0.attention.self.query",
        "bert.encoder.layer.1.attention.self.query",
        "bert.pooler.dense",
    ]
    assert list(space.dimensions) == ["bert.encoder.layer.0", "bert.encoder.layer.1", "bert.pooler.dense"]


def test_targets_by_half() -> None:
    assert len(space_of("bert", targets="attention").shapes) == 8
    assert len(space_of("bert", targets="feed-forward").shapes) == 4


def test_embedded_model_has_six_layers_without_loading_weights() -> None:
    config = study_config(space={"ladder": [0, 1, 2, 4, 8], "group_by": "layer"})
    model = load_skeleton(config)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    space = build_space(model, config)
    assert list(space.dimensions) == [f"encoder.layer.{i}" for i in range(6)]
    assert space.size == 5**6
    # 4 × (384 + 384) in attention and 2 × (384 + 1536) in the feed-forward of each of 6 layers, at rank 8
    assert (space.least_parameters, space.most_parameters) == (0, 8 * 6 * (4 * 768 + 2 * 1920))


SPACES = {group: space_of("bert", group_by=group, ladder=[0, 1, 3, 8]) for group in ("layer", "block", "module")}


@given(st.sampled_from(sorted(SPACES)), st.data())
def test_proposal_and_rank_map_convert_into_each_other(group, data) -> None:
    space = SPACES[group]
    proposal = {name: data.draw(st.integers(0, 3)) for name in space.dimensions}
    rank_map = space.rank_map(proposal)
    assert rank_map.ranks.keys() == space.shapes.keys()
    assert space.proposal(rank_map) == proposal
    assert space.least_parameters <= space.parameters(rank_map) <= space.most_parameters


def test_map_outside_the_space_is_refused() -> None:
    space = SPACES["layer"]
    with pytest.raises(ValueError, match="not an adaptable module"):
        space.proposal(RankMap({"bert.pooler.dense": 1}))
    with pytest.raises(ValueError, match=r"rank 2 .* not on the ladder"):
        space.proposal(space.uniform(2))
    with pytest.raises(ValueError, match="one rank in this study"):
        space.proposal(RankMap({**space.uniform(1).ranks, "bert.encoder.layer.0.attention.self.query": 3}))


def test_rank_above_a_module_is_refused() -> None:
    with pytest.raises(InputError, match=r"space\.ladder: rank 33 is above min\(in, out\) = 32 of 'bert.encoder"):
        space_of("bert", ladder=[1, 33])


def test_unknown_target_is_refused() -> None:
    with pytest.raises(InputError, match=r"space\.targets: 'qurey' names no linear layer .* did you mean 'query'\?"):
        space_of("bert", targets=["qurey"])
    with pytest.raises(InputError, match=r"'dens' names no"):
        space_of("bert", targets=["dens"])


def test_unsearchable_modules_are_kept_by_name_with_the_reason() -> None:
    model, config = small_model("bert"), study_config(space={"ladder": [0, 1], "targets": ["query", "key"]})
    idle = {f"bert.encoder.layer.{i}.attention.self.query": "is never called" for i in range(2)}
    idle["bert.pooler.dense"] = "is never called"
    with pytest.raises(InputError, match=r"space.targets: 'query' means only modules that can't .* 'bert.* is never"):
        build_space(model, config, unsearchable=idle)
    del idle["bert.encoder.layer.0.attention.self.query"]
    space = build_space(model, config, unsearchable=idle)
    assert [name for name in space.shapes if name.endswith("query")] == ["bert.encoder.layer.0.attention.self.query"]
    assert list(space.left_out) == ["bert.encoder.layer.1.attention.self.query"]  # the pooler is no target
    assert Space.from_json(json.loads(json.dumps(asdict(space)))) == space


def mixture() -> nn.Module:
    """Two layers of four experts each."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    with torch.device("meta"):
        return MixtralForCausalLM(MixtralConfig(vocab_size=64, num_local_experts=4, num_key_value_heads=2, **sizes))


@pytest.mark.parametrize(("targets", "said"), [("all-linear", True), ("attention", False), (["q_proj"], False)])
def test_fused_experts_are_said_to_get_no_rank(targets, said) -> None:
    space = build_space(mixture(), study_config(space={"ladder": [0, 1], "targets": targets}))
    names = [f"model.layers.{i}.mlp.experts.{name}" for i in range(2) for name in ("gate_up_proj", "down_proj")]
    assert list(space.left_out) == (names if said else [])
    # Experts: 4 · 3 · 32 · 48. Beside them attention: 2 · 32 · 32 + 2 · 32 · 16; the router: 4 · 32; two norms of 32.
    share = 18432 / (18432 + 3072 + 128 + 64)
    assert all(f"all such weights are {share:.0%} of those in layers" in reason for reason in space.left_out.values())


def test_uniform_maps_use_the_settings_of_the_study_file() -> None:
    ranges = {"alpha": [1, 8], "dropout": [0, 0.5], "learning_rate": [1e-3, 1e-1], "augmentation": True}
    config = study_config(space=ranges, training={"augmentation": "token-dropout"}, adapter={"dropout": 0.1})
    space = build_space(small_model("bert"), config)
    joint = {name: value for name, value in space.proposal(space.uniform(1)).items() if name in space.joint}
    assert joint == {"learning_rate": 1e-2, "alpha": 4.0, "dropout": 0.1, "augmentation": 1}


def test_model_without_a_layer_to_adapt_is_refused() -> None:
    model = nn.Sequential(nn.Embedding(4, 4), nn.LayerNorm(4))
    with pytest.raises(InputError, match=r"space\.targets: 'all-linear' matches no linear layer of this model"):
        build_space(model, study_config())
