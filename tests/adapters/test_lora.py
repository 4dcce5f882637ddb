import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peft import get_peft_model
from torch import nn

from rank_search.adapters import (
    Member,
    adalora_config,
    base_models,
    known_warnings,
    lora_config,
    module_scale,
    packed,
    stored_transposed,
)
from rank_search.config import AdapterConfig
from rank_search.core.ranks import RankMap
from rank_search.models.modules import linear_modules
from tests.export.helpers import NAMES
from tests.packs import MODELS, SPACES
from tests.peft_oracle import adapted, lora_layers
from tests.small_models import small_model


@pytest.mark.parametrize(("scale", "expected"), [("rslora", 4 / 8**0.5), ("alpha/r", 0.5), ("constant", 4.0)])
def test_scale_rules(scale, expected) -> None:
    config = AdapterConfig(scale=scale, alpha=4.0)
    assert module_scale(config, 8) == pytest.approx(expected)
    model = small_model("bert")
    ranks = RankMap({name: 8 if i else 2 for i, name in enumerate(linear_modules(model.bert))})
    with adapted(model.bert, ranks, config):
        found = {name: layer.scaling["default"] for name, layer in lora_layers(model.bert).items()}
    assert found == pytest.approx({name: module_scale(config, rank) for name, rank in ranks.ranks.items()})


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
    model, ranks = Nested(), RankMap({"proj": 2, "inner.proj": 0})
    with adapted(model, ranks, AdapterConfig()):
        assert list(lora_layers(model)) == ["proj"]
    with packed(model, [Member(ranks, AdapterConfig(), seed=0)]) as pack:
        assert list(pack.state()) == ["proj.A", "proj.B"]


def test_map_of_zeros_has_no_config() -> None:
    with pytest.raises(ValueError, match="all 0"):
        lora_config(RankMap({"w": 0}), AdapterConfig())


def test_conv1d_modules_are_stored_transposed() -> None:
    for architecture, expected in (("gpt2", True), ("bert", False), ("llama", False)):
        assert stored_transposed(MODELS[architecture], SPACES[architecture].uniform(1)) is expected
    assert not stored_transposed(MODELS["gpt2"], SPACES["gpt2"].uniform(0))


def test_base_models_go_by_the_prefix_of_their_modules() -> None:
    one = MODELS["bert"]
    assert base_models(one) == {"": one}
    assert base_models(nn.ModuleDict({"query": one})) == {"query.": one}


def test_adapter_of_a_head_alone_targets_nothing_else() -> None:
    config = lora_config(RankMap({"w": 0}), AdapterConfig(), head=["classifier"])
    model = small_model("bert")
    with known_warnings():
        found = get_peft_model(model, config)
    trained = [name for name, weight in found.named_parameters() if weight.requires_grad]
    assert trained
    assert all("classifier" in name for name in trained)


@given(st.integers(4, 500), st.integers(1, 16), st.sampled_from(["rslora", "alpha/r", "constant"]))
def test_adalora_prunes_from_half_as_many_again_to_the_maps_rank_at_the_studys_scale(steps, rank, rule) -> None:
    config = AdapterConfig(scale=rule, alpha=4.0)
    found = adalora_config(RankMap({"a": rank, "b": rank}), config, steps)
    assert (found.target_r, found.init_r) == (rank, -(-3 * rank // 2))
    assert found.tinit < found.total_step - found.tfinal  # PEFT prunes between these two
    assert found.lora_alpha / found.init_r == pytest.approx(module_scale(config, found.init_r))


@given(st.dictionaries(NAMES, st.integers(0, 3), min_size=1, max_size=6), st.sets(NAMES, max_size=4))
def test_nothing_but_the_map_is_adapted_whatever_modules_are_called(ranks, others) -> None:
    """By PEFT's own matching, of a model that has other modules too."""
    from peft.tuners.tuners_utils import check_target_module_exists

    rank_map = RankMap(ranks)
    if not rank_map.adapted:
        return
    others |= {f"x.{name}" for name in ranks} - ranks.keys()
    config = lora_config(rank_map, AdapterConfig(), others=others)
    found = {name for name in {*ranks, *others} if check_target_module_exists(config, name)}
    assert found == rank_map.adapted.keys()
