import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rank_search.core.ranks import RankMap, Shape

names = st.text("abcdef.0123456789_", min_size=1, max_size=20)
maps = st.dictionaries(names, st.integers(0, 64), max_size=12)


def test_one_layer_of_the_design() -> None:
    shapes = {"w": Shape(1024, 2048)}
    assert RankMap({"w": 16}).trainable_parameters(shapes) == 49_152
    assert pytest.approx(0.9766, abs=5e-5) == 1 - 49_152 / (1024 * 2048)


def test_three_layers_of_the_design() -> None:
    shapes = {"a": Shape(512, 1024), "b": Shape(1024, 2048), "c": Shape(2048, 4096)}
    each = [RankMap({name: rank}).trainable_parameters(shapes) for name, rank in zip("abc", (8, 16, 32), strict=True)]
    assert each == [12_288, 49_152, 196_608]
    assert RankMap({"a": 8, "b": 16, "c": 32}).trainable_parameters(shapes) == 258_048


@given(maps)
def test_json_round_trip(ranks) -> None:
    assert RankMap.from_json(RankMap(ranks).to_json()) == RankMap(ranks)


@given(maps, st.randoms())
def test_key_ignores_order_and_zeros(ranks, random) -> None:
    items = [(name, rank) for name, rank in ranks.items() if rank]
    random.shuffle(items)
    assert RankMap(dict(items)).key == RankMap(ranks).key


@given(maps, maps)
def test_key_tells_different_maps_apart(one, other) -> None:
    assert (RankMap(one).key == RankMap(other).key) == (RankMap(one).adapted == RankMap(other).adapted)


@given(maps)
def test_count_is_the_sum_over_modules(ranks) -> None:
    shapes = {name: Shape(len(name), 7) for name in ranks}
    expected = sum(rank * (len(name) + 7) for name, rank in ranks.items())
    assert RankMap(ranks).trainable_parameters(shapes) == expected


@pytest.mark.parametrize("rank", [-1, 1.5, "4", True, None])
def test_refuses_what_is_no_rank(rank) -> None:
    with pytest.raises(ValueError, match="'w' must be an integer"):
        RankMap({"w": rank})


@pytest.mark.parametrize("text", ["[1, 2]", "3", json.dumps({"w": -1})])
def test_refuses_json_that_is_no_map(text) -> None:
    with pytest.raises(ValueError, match="rank"):
        RankMap.from_json(text)


def test_map_can_not_be_changed_through_its_source() -> None:
    source = {"w": 1}
    rank_map = RankMap(source)
    source["w"] = 9
    assert rank_map.ranks["w"] == 1
    with pytest.raises(TypeError):
        rank_map.ranks["w"] = 2


def test_maps_hash_as_they_compare() -> None:
    assert len({RankMap({"a": 1, "b": 2}), RankMap({"b": 2, "a": 1})}) == 1


def test_under_is_the_part_with_a_prefix() -> None:
    both = RankMap({"retriever.a": 1, "generator.a": 2, "generator.b": 0})
    assert both.under("generator.") == RankMap({"a": 2, "b": 0})
    assert both.under("") == both
