"""Maps that adapt modules of one kind, or of one part of the model, alone."""

import dataclasses

from rank_search.core.module_names import kind_of, layer_of
from rank_search.core.ranks import Shape
from rank_search.core.space import Space
from rank_search.search.rivals.families import families


def space_of(*kinds: str, layers: int = 4, group=str) -> Space:
    names = [f"encoder.layer.{i}.{kind}" for i in range(layers) for kind in kinds]
    dimensions: dict[str, tuple[str, ...]] = {}
    for name in names:
        dimensions[group(name)] = (*dimensions.get(group(name), ()), name)
    return Space({name: Shape(4, 6) for name in names}, dimensions, (0, 2, 4))


BERT = ("attention.self.query", "attention.self.value", "attention.output.dense", "output.dense")
LLAMA = ("self_attn.q_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.up_proj")


def kinds_of(rank_map) -> set[str]:
    return {kind_of(name) for name in rank_map.adapted}


def test_families_are_by_kind_and_the_upper_half_at_the_smallest_rank() -> None:
    for query, values, output, forward in (BERT, LLAMA):
        space = space_of(query, values, output, forward)
        found = families(space)
        assert {rank for rank_map in found for rank in rank_map.ranks.values()} == {0, 2}
        both, upper, alone, feed_forward, attention = found
        assert kinds_of(both) == {values, output}
        assert {layer_of(name) for name in upper.adapted} == {"encoder.layer.2", "encoder.layer.3"}
        assert kinds_of(alone) == {values}
        assert kinds_of(feed_forward) == {forward}
        assert kinds_of(attention) == {query, values, output}


def test_families_that_a_space_cannot_tell_apart_are_left_out() -> None:
    by_layer = families(space_of(*BERT, group=layer_of))
    assert [{layer_of(name) for name in rank_map.adapted} for rank_map in by_layer] == [
        {"encoder.layer.2", "encoder.layer.3"}
    ]
    fused = families(space_of("attn.c_attn", "mlp.c_fc"))
    assert len(fused) == len(set(fused))
    assert {frozenset(kinds_of(rank_map)) for rank_map in fused} >= {
        frozenset({"attn.c_attn"}),
        frozenset({"mlp.c_fc"}),
    }


def test_a_model_of_one_layer_has_no_upper_half() -> None:
    space = dataclasses.replace(space_of("mlp.up_proj", layers=1))
    assert families(space) == []
