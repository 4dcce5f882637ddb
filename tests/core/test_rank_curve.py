import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rank_search.core.errors import InputError
from rank_search.core.module_names import block_of, layer_of
from rank_search.core.rank_curve import CurvePoint, ModulePosition, RankCurve, module_positions
from rank_search.core.ranks import RankMap, Shape
from rank_search.core.space import Space

LADDER = (0, 1, 2, 4, 8)
BERT = ["attention.self.query", "attention.output.dense", "intermediate.dense"]
LLAMA = ["self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj"]


def space(stack: str, kinds: list[str], layers: int, by_layer: bool = False) -> Space:
    names = [f"{stack}.{i}.{kind}" for i in range(layers) for kind in kinds]
    group = layer_of if by_layer else str
    dimensions = {group(name): tuple(module for module in names if group(module) == group(name)) for name in names}
    return Space({name: Shape(4, 8) for name in names}, dimensions, LADDER)


@given(st.lists(st.sampled_from(LADDER), min_size=9, max_size=9))
def test_curve_of_a_map_gives_it_back_on_its_own_model(ranks) -> None:
    bert = space("encoder.layer", BERT, 3)
    rank_map = RankMap(dict(zip(bert.shapes, ranks, strict=True)))
    assert RankCurve.from_rank_map(rank_map).rank_map(bert) == rank_map


@given(st.lists(st.sampled_from(LADDER), min_size=9, max_size=9), st.integers(1, 12))
def test_curve_gives_another_model_a_map_of_its_space(ranks, layers) -> None:
    curve = RankCurve.from_rank_map(RankMap(dict(zip(space("encoder.layer", BERT, 3).shapes, ranks, strict=True))))
    other = space("model.layers", LLAMA, layers, by_layer=True)
    found = curve.rank_map(other)
    other.proposal(found)  # raises where it is not in the space
    assert min(ranks) <= min(found.ranks.values()) <= max(found.ranks.values()) <= max(ranks)


def test_depth_is_a_share_of_the_stack_and_halves_stand_in_for_unknown_kinds() -> None:
    bert = space("encoder.layer", BERT, 3)
    ranks = {
        name: {0: 0, 1: 4, 2: 8}[int(name.split(".")[2])] if block_of(name).endswith("attention") else 1
        for name in bert.shapes
    }
    other = space("model.layers", LLAMA, 5)
    found = RankCurve.from_rank_map(RankMap(ranks)).rank_map(other)
    attention = [found.ranks[f"model.layers.{i}.self_attn.q_proj"] for i in range(5)]
    assert attention == [0, 2, 4, 4, 8]  # 0, 2, 4, 6, 8; 6 is as near to 4 as to 8, and the smaller one is taken
    assert {found.ranks[f"model.layers.{i}.mlp.up_proj"] for i in range(5)} == {1}


def test_file_round_trip_and_what_is_no_curve(tmp_path) -> None:
    curve = RankCurve((CurvePoint("a.b", "attention", 0.0, 2), CurvePoint("a.b", "attention", 1.0, 0)))
    path = tmp_path / "rank_curve.json"
    path.write_text(curve.to_json())
    assert RankCurve.read(path) == curve
    for wrong in ("", "{}", '{"points": []}', '{"points": [{"kind": "a", "half": "b", "depth": 2, "rank": 1}]}', "[1]"):
        path.write_text(wrong)
        with pytest.raises(InputError, match=r"space.prior: .* holds no rank curve"):
            RankCurve.read(path)
    with pytest.raises(InputError, match=re.escape("check the path")):
        RankCurve.read(tmp_path / "none.json")
    assert json.loads(curve.to_json())["points"][0]["rank"] == 2


def test_positions_count_depth_within_each_stack_of_layers() -> None:
    names = [
        "encoder.layer.0.attention.query",
        "encoder.layer.2.output.dense",
        "decoder.layer.0.mlp.up",
        "pooler.dense",
    ]
    assert module_positions(names) == [
        ModulePosition("decoder.layer.0.mlp.up", "mlp.up", "feed-forward", 0.0),
        ModulePosition("encoder.layer.0.attention.query", "attention.query", "attention", 0.0),
        ModulePosition("encoder.layer.2.output.dense", "output.dense", "feed-forward", 1.0),
    ]


def test_rank_of_a_dimension_is_the_mean_weighted_by_parameters() -> None:
    names = ["h.0.attn.a", "h.0.attn.b"]
    curve = RankCurve.from_rank_map(RankMap({"h.0.attn.a": 8, "h.0.attn.b": 0}))
    for shapes, rank in (((Shape(30, 10), Shape(5, 5)), 8), ((Shape(5, 5), Shape(30, 10)), 2)):
        both = Space(dict(zip(names, shapes, strict=True)), {"h.0": tuple(names)}, LADDER)
        # 8 · 40 / 50 = 6.4 is nearer to 8 than to 4; 8 · 10 / 50 = 1.6 is nearer to 2 than to 1.
        assert set(curve.rank_map(both).ranks.values()) == {rank}
