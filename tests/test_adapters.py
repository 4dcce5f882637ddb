import json
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from peft.tuners.lora import LoraModel
from torch import nn

from rank_search.adapters import (
    Adapter,
    Adapters,
    adapted,
    eva_directions,
    loaded,
    lora_config,
    lora_layers,
    module_scale,
)
from rank_search.config import AdapterConfig
from rank_search.errors import InputError
from rank_search.modules import build_space
from rank_search.ranks import RankMap
from tests.bench import study_config
from tests.conftest import small_model

ARCHITECTURES = ("bert", "llama", "gpt2")
MODELS = {name: small_model(name) for name in ARCHITECTURES}
MODULES = study_config(space={"group_by": "module", "ladder": [0, 1]})
SPACES = {name: build_space(model, MODULES) for name, model in MODELS.items()}
TOKENS = torch.arange(10).reshape(2, 5)


def output(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=TOKENS).logits


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ARCHITECTURES), st.sampled_from(["rslora", "alpha/r", "constant"]), st.data())
def test_count_is_pefts_and_a_fresh_adapter_changes_nothing(architecture, scale, data) -> None:
    model, space = MODELS[architecture], SPACES[architecture]
    ranks = {name: data.draw(st.integers(0, 32), label=name) for name in space.shapes}
    rank_map = RankMap(ranks)
    before = output(model)
    with adapted(model, rank_map, AdapterConfig(scale=scale, alpha=3.0), seed=1) as peft_models:
        trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        if not peft_models:
            assert not rank_map.adapted
            trainable = 0
        else:
            assert peft_models[""].get_nb_trainable_parameters()[0] == trainable
            assert {name: layer.r["default"] for name, layer in lora_layers(model).items()} == rank_map.adapted
        assert trainable == space.parameters(rank_map)
        assert torch.equal(output(model), before)
    assert not lora_layers(model)
    assert torch.equal(output(model), before)


@pytest.mark.parametrize(("scale", "expected"), [("rslora", 4 / 8**0.5), ("alpha/r", 0.5), ("constant", 4.0)])
def test_scale_rules(scale, expected) -> None:
    config = AdapterConfig(scale=scale, alpha=4.0)
    assert module_scale(config, 8) == pytest.approx(expected)
    ranks = {name: 8 if i else 2 for i, name in enumerate(SPACES["bert"].shapes)}
    with adapted(MODELS["bert"], RankMap(ranks), config, seed=0):
        found = {name: layer.scaling["default"] for name, layer in lora_layers(MODELS["bert"]).items()}
    assert found == pytest.approx({name: module_scale(config, rank) for name, rank in ranks.items()})


names = st.text("ab.0*+[(^$\\", min_size=1, max_size=8)


@given(st.dictionaries(names, st.integers(0, 9), min_size=1, max_size=8), names)
def test_patterns_match_their_own_module_alone(ranks, stranger) -> None:
    rank_map = RankMap(ranks)
    if not rank_map.adapted:
        return
    patterns = lora_config(rank_map, AdapterConfig(scale="constant")).rank_pattern
    for name in {*ranks, stranger, f"x.{stranger}"}:
        # This is how PEFT matches: peft.utils.other.get_pattern_key
        matching = [rank for key, rank in patterns.items() if re.match(rf"(.*\.)?({key})$", name)]
        assert matching == ([ranks[name]] if ranks.get(name) else [])


class Nested(nn.Module):
    """One module's name ends in another's: PEFT's target lists match by ending."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)
        self.inner = nn.ModuleDict({"proj": nn.Linear(4, 4)})

    def forward(self, x):
        return self.inner["proj"](self.proj(x))


def test_rank_zero_module_stays_alone_though_its_name_ends_in_a_targets() -> None:
    model = Nested()
    with adapted(model, RankMap({"proj": 2, "inner.proj": 0}), AdapterConfig(), seed=0):
        assert list(lora_layers(model)) == ["proj"]


def test_injection_that_differs_from_the_map_is_an_error() -> None:
    model = Nested()
    with (
        pytest.raises(RuntimeError, match=r"PEFT gave 'inner\.proj' \(rank, scale\) \(2, .*, the map None"),
        adapted(model, RankMap({"proj": 2}), AdapterConfig(), seed=0),
    ):
        pass
    assert not lora_layers(model)


def test_map_of_zeros_has_no_config() -> None:
    with pytest.raises(ValueError, match="all 0"):
        lora_config(RankMap({"w": 0}), AdapterConfig())


def starting_a(init: dict, rank: int = 8, seed: int = 0, directions=None) -> dict[str, torch.Tensor]:
    model = MODELS["bert"]
    config = AdapterConfig.model_validate({"init": init})
    with adapted(model, SPACES["bert"].uniform(rank), config, seed=seed, directions=directions):
        assert all((layer.lora_B["default"].weight == 0).all() for layer in lora_layers(model).values())
        return {name: layer.lora_A["default"].weight.detach().clone() for name, layer in lora_layers(model).items()}


def test_gaussian_init_has_the_std_asked_for() -> None:
    values = torch.cat([a.flatten() for a in starting_a({"method": "gaussian", "std": 0.05}).values()])
    assert values.std().item() == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("method", ["gaussian", "kaiming"])
def test_seed_decides_the_start(method) -> None:
    one, same, other = (starting_a({"method": method}, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)


def test_eva_starts_along_the_inputs_leading_directions() -> None:
    model, space = MODELS["bert"], SPACES["bert"]
    tokens = torch.randint(0, 64, (16, 20), generator=torch.Generator().manual_seed(0))
    batches = [{"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}]
    directions = eva_directions(model, space.uniform(4), AdapterConfig(), {"": batches})
    assert {tuple(v.shape) for v in directions.values()} == {(4, 32), (4, 48)}
    start = starting_a({"method": "eva"}, rank=2, directions=directions)
    assert all(torch.allclose(start[name], directions[name][:2].float()) for name in start)
    # The first module sees the embeddings: its directions are their principal ones.
    with torch.no_grad():
        seen = model.bert.embeddings(tokens).reshape(-1, 32)
    _, _, exact = torch.linalg.svd(seen - seen.mean(0), full_matrices=False)
    first = directions["bert.encoder.layer.0.attention.self.query"].float()
    assert (exact[:2] @ first[:2].T).abs().diag().min().item() > 0.99


def test_eva_with_fewer_tokens_than_ranks_is_refused() -> None:
    """PEFT would go round and round."""
    tokens = torch.arange(6).reshape(2, 3)
    batches = [{"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}]
    with pytest.raises(InputError, match=r"adapter\.init\.method: .* one has 6 for rank 7"):
        eva_directions(MODELS["bert"], SPACES["bert"].uniform(7), AdapterConfig(), {"": batches})


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_saved_adapter_loads_by_plain_peft(architecture, tmp_path) -> None:
    model, space = MODELS[architecture], SPACES[architecture]
    ranks = {name: i % 4 for i, name in enumerate(space.shapes)}
    with adapted(model, RankMap(ranks), AdapterConfig(), seed=0, sources={"": "the/base"}) as models:
        for layer in lora_layers(model).values():
            nn.init.normal_(layer.lora_B["default"].weight)
        trained = output(model)
        Adapters({"": Adapter.of(models[""])}).save(tmp_path / "adapter")
    written = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == "the/base"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]
    fresh = small_model(architecture)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *args, **kwargs: None)  # transformers' own deprecations
        loaded_model = PeftModel.from_pretrained(fresh, tmp_path / "adapter")
    assert torch.equal(output(loaded_model), trained)
    assert not torch.equal(output(model), trained)
    with loaded(model, tmp_path / "adapter"):
        assert torch.equal(output(model), trained)


def test_saving_again_replaces_the_adapter(tmp_path) -> None:
    model, space = MODELS["bert"], SPACES["bert"]
    for rank in (1, 2):
        with adapted(model, space.uniform(rank), AdapterConfig(), seed=0) as models:
            Adapters({"": Adapter.of(models[""])}).save(tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["r"] == 2


def test_injection_that_fails_half_way_leaves_nothing_behind(monkeypatch) -> None:
    model, space = MODELS["llama"], SPACES["llama"]
    before = output(model)
    replace, replaced = LoraModel._replace_module, []

    def failing(self, *arguments):
        if len(replaced) == 3:
            raise MemoryError("out of memory")
        replaced.append(arguments)
        replace(self, *arguments)

    monkeypatch.setattr(LoraModel, "_replace_module", failing)
    with pytest.raises(MemoryError), adapted(model, space.uniform(1), AdapterConfig(), seed=0):
        pass
    assert len(replaced) == 3
    assert not lora_layers(model)
    assert torch.equal(output(model), before)
    monkeypatch.undo()
    with adapted(model, space.uniform(1), AdapterConfig(), seed=0):
        assert len(lora_layers(model)) == len(space.shapes)
