import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rank_search.adapters import Member, lora_config, module_scale, packed
from rank_search.config import AdapterConfig
from rank_search.core.ranks import RankMap
from rank_search.models.modules import linear_modules
from tests.conftest import small_model
from tests.peft_oracle import adapted, lora_layers


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
