"""Families of modules: maps that adapt modules of one kind, or of one part of the model, alone.

Which kind of module is adapted often matters more than how the ranks are spread over layers: on 150 intents values and
outputs at rank 1 (9,216 parameters) lose 0.0056 against uniform rank 8 (331,776), no more than a truncation by σ² of
twice that size.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rank_search.core.module_names import block_of, kind_of, layer_of
from rank_search.core.ranks import RankMap

if TYPE_CHECKING:
    from collections.abc import Callable

    from rank_search.core.space import Space

_VALUES = re.compile(r"(^|[._])(v|value|values|wv)(_proj|_lin)?$", re.IGNORECASE)
_OUTPUTS = re.compile(r"(^|[._])(o|out|output|wo|dense|c)(_proj|_lin)?$", re.IGNORECASE)


def families(space: Space) -> list[RankMap]:
    """The families of a space at its smallest rank, without those that its dimensions can't tell apart."""
    names = list(space.shapes)
    layers = list(dict.fromkeys(layer_of(name) for name in names))
    upper = set(layers[len(layers) // 2 :])

    def is_attention(name: str) -> bool:
        return block_of(name).endswith("/attention")

    def is_values(name: str) -> bool:
        return is_attention(name) and bool(_VALUES.search(kind_of(name)))

    def is_output(name: str) -> bool:
        return is_attention(name) and bool(_OUTPUTS.search(kind_of(name)))

    members: list[Callable[[str], bool]] = [
        lambda name: is_values(name) or is_output(name),
        lambda name: layer_of(name) in upper,
        is_values,
        lambda name: not is_attention(name),
        is_attention,
    ]
    rank = next(rank for rank in space.ladder if rank)
    maps = [RankMap({name: rank if is_member(name) else 0 for name in names}) for is_member in members]
    partial = [rank_map for rank_map in maps if 0 < len(rank_map.adapted) < len(names)]
    return list(dict.fromkeys(rank_map for rank_map in partial if _is_in(rank_map, space)))


def _is_in(rank_map: RankMap, space: Space) -> bool:
    try:
        space.proposal(rank_map)
    except ValueError:
        return False
    return True
