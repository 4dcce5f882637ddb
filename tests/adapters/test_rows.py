"""Rows of several maps: shared below the adapters, and never mixed above them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    LongformerConfig,
    LongformerForSequenceClassification,
)

from rank_search.adapters import UnpackableError, packed
from rank_search.core.ranks import RankMap
from rank_search.models.modules import build_space
from tests.packs import ARCHITECTURES, MODELS, MODULES, SPACES, TOKENS, from_layer, member, output, rank_map
from tests.small_models import filled


def rows_of_layers(model: nn.Module, layers: list[nn.Module], run) -> list[int]:
    """How many rows pass through the first linear module of each layer."""
    seen: list[int] = []
    first = [next(module for module in layer.modules() if isinstance(module, nn.Linear)) for layer in layers]
    handles = [module.register_forward_hook(lambda _m, inputs, _o: seen.append(len(inputs[0]))) for module in first]
    run()
    for handle in handles:
        handle.remove()
    return seen


def test_what_lies_below_the_lowest_adapted_layer_is_computed_once() -> None:
    model = MODELS["bert"]
    names = list(SPACES["bert"].shapes)
    upper = RankMap({name: 2 if ".1." in name else 0 for name in names})
    lower = RankMap({name: 2 if ".0.output" in name else 0 for name in names})
    maps = [upper, lower, upper, RankMap(dict.fromkeys(names, 0))]
    solo = []
    for k, ranks in enumerate(maps):
        with packed(model, [member(ranks, seed=k)]) as pack:
            filled(pack)
            solo.append(output(model))
    layers = list(model.bert.encoder.layer)
    with packed(model, [member(ranks, seed=k) for k, ranks in enumerate(maps)]) as pack:
        for name, module in pack._modules.items():
            for k, ranks in enumerate(maps):
                draw = torch.Generator().manual_seed(0)
                adapted = [m for m in names if ranks.ranks[m]]
                if name in adapted:
                    for other in adapted:
                        b = torch.randn(1, 2, SPACES["bert"].shapes[other].out_features, generator=draw)
                        if other == name:
                            module.B.data[k] = b[0]
        found: list[torch.Tensor] = []
        assert rows_of_layers(model, layers, lambda: found.append(output(model, 4))) == [4, 8]
        for k, alone in enumerate(solo):
            assert torch.allclose(found[0].chunk(4)[k], alone, atol=1e-5)
        different = torch.cat([TOKENS, TOKENS, TOKENS + 1, TOKENS])
        with torch.no_grad():
            seen = rows_of_layers(model, layers, lambda: model(input_ids=different))
        assert seen == [8, 8]


def test_decoding_in_a_pack_is_decoding_alone() -> None:
    model = MODELS["llama"]
    maps = [rank_map("llama", k) for k in range(3)]

    def written(copies: int) -> torch.Tensor:
        return model.generate(
            input_ids=TOKENS.repeat(copies, 1) + 3,
            attention_mask=torch.ones(2 * copies, 5),
            max_new_tokens=6,
            do_sample=False,
            eos_token_id=None,
        )

    with packed(model, [member(ranks, seed=k) for k, ranks in enumerate(maps)]) as pack:
        filled(pack)
        together = written(3).chunk(3)
        for k in range(3):
            pack.keep([k])
            assert torch.equal(written(1), together[k])
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("head", ["bert.embeddings.token_type_embeddings", "bert.encoder.layer.0.output.LayerNorm"])
def test_heads_below_adapters_keep_maps_apart(head) -> None:
    """Modules that the source lacks may lie anywhere."""
    model, ranks = MODELS["bert"], from_layer("bert", 1)
    with torch.no_grad(), packed(model, [member(ranks, seed) for seed in (0, 1)], head=(head,)) as pack:
        draw = torch.Generator().manual_seed(0)
        for weight in (w for copy_ in pack._heads[head].copies for w in copy_.parameters()):
            weight.add_(torch.randn(weight.shape, generator=draw))
        together = output(model, 2).chunk(2)
        for k in range(2):
            pack.keep([k])
            assert torch.allclose(output(model), together[k], atol=1e-5)
    assert not torch.allclose(*together, atol=1e-2)


def test_positions_that_can_not_be_parted_are_computed_for_every_map() -> None:
    """BLOOM gives its layers positions of [rows · heads, 1, length]."""
    torch.manual_seed(0)
    model = BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4)).eval()
    space = build_space(model.requires_grad_(False), MODULES)
    maps = [RankMap({name: 2 * (f".{layer}." in name) for name in space.shapes}) for layer in (0, 1, 1)]
    with packed(model, [member(ranks, seed) for seed, ranks in enumerate(maps)]) as pack:
        filled(pack)
        together = output(model, 3).chunk(3)
        for k in range(3):
            pack.keep([k])
            assert torch.allclose(output(model), together[k], atol=1e-5)


@pytest.mark.parametrize("family", ["deberta", "longformer"])
def test_models_that_do_not_keep_rows_together_are_refused(family) -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    if family == "deberta":
        config = DebertaV2Config(
            **sizes, intermediate_size=48, relative_attention=True, pos_att_type=["p2c", "c2p"], share_att_key=True
        )
        model = DebertaV2ForSequenceClassification(config)
    else:
        config = LongformerConfig(**sizes, intermediate_size=48, attention_window=4, max_position_embeddings=64)
        model = LongformerForSequenceClassification(config)
    space = build_space(model.eval().requires_grad_(False), MODULES)
    ranks = space.uniform(1)
    with packed(model, [member(ranks, 0)]) as pack:
        filled(pack)
        assert model(input_ids=TOKENS).logits.isfinite().all()
    with packed(model, [member(ranks, 0), member(ranks, 1)]), pytest.raises(UnpackableError, match="a linear layer"):
        model(input_ids=TOKENS.repeat(2, 1))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(ARCHITECTURES), st.lists(st.sets(st.integers(0, 50), max_size=4), min_size=2, max_size=4))
def test_a_map_computes_in_a_pack_what_it_computes_alone(architecture, adapted) -> None:
    """Whichever modules the maps adapt, and so whichever rows they share."""
    model, names = MODELS[architecture], list(SPACES[architecture].shapes)
    maps = [RankMap({name: 2 * (i in chosen) for i, name in enumerate(names)}) for chosen in adapted]
    with packed(model, [member(ranks, seed) for seed, ranks in enumerate(maps)]) as pack:
        filled(pack)
        together = output(model, len(maps)).chunk(len(maps))
        for k in range(len(maps)):
            pack.keep([k])
            assert torch.allclose(output(model), together[k], atol=1e-5)


def test_hooks_are_gone_with_the_pack() -> None:
    model = MODELS["bert"]
    with packed(model, [member(rank_map("bert", k)) for k in range(2)]):
        assert sum(len(module._forward_pre_hooks) for module in model.modules()) == 3  # the model and its two layers
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
