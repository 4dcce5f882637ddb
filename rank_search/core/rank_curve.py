"""Ranks against depth, free of one model's module names: what one study found, as a start for another."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from rank_search.core.errors import InputError
from rank_search.core.module_names import block_of, kind_of, layer_of
from rank_search.core.ranks import RankMap

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from rank_search.core.space import Space


@dataclass(frozen=True)
class Point:
    """The rank of one module.

    Attributes:
        kind: its name within its layer, such as ``self_attn.q_proj``.
        half: ``attention`` or ``feed-forward``.
        depth: of its layer in the stack, from 0, the first, to 1, the last.
        rank: its rank.
    """

    kind: str
    half: str
    depth: float
    rank: int


@dataclass(frozen=True)
class RankCurve:
    """Ranks by kind of module and depth."""

    points: tuple[Point, ...]

    @classmethod
    def of(cls, rank_map: RankMap) -> RankCurve:
        """The curve of a map; modules outside layers are left out."""
        return cls(tuple(place.at(rank_map.ranks[place.name]) for place in _places(rank_map.ranks)))

    def rank_map(self, space: Space) -> RankMap:
        """The map of another space that is nearest to this curve.

        A module's rank is read off the points of its kind, where the models share names; otherwise off those of its
        half of the layer; otherwise off all; between depths by straight lines. A dimension gets the mean over its
        modules, each counting by its parameters, at the nearest rank of the ladder.
        """
        wanted = {place.name: self._at(place) for place in _places(space.shapes)}
        ranks: dict[str, int] = {}
        for modules in space.dimensions.values():
            inside = [module for module in modules if module in wanted]
            prices = [sum(space.shapes[module]) for module in inside]
            mean = float(np.average([wanted[module] for module in inside], weights=prices)) if inside else 0.0
            nearest = min(space.ladder, key=lambda rank: (abs(rank - mean), rank))
            ranks |= dict.fromkeys(modules, nearest)
        return RankMap({module: ranks[module] for module in space.shapes})

    def _at(self, place: _Place) -> float:
        alike = [point for point in self.points if point.kind == place.kind]
        alike = alike or [point for point in self.points if point.half == place.half] or list(self.points)
        by_depth: dict[float, list[int]] = defaultdict(list)
        for point in alike:
            by_depth[point.depth].append(point.rank)
        depths = sorted(by_depth)
        return float(np.interp(place.depth, depths, [np.mean(by_depth[depth]) for depth in depths]))

    def to_json(self, origin: Sequence[str] = ()) -> str:
        """A JSON object with one row a point, and a text that says where it comes from."""
        rows = ",\n".join(f"    {json.dumps(asdict(point))}" for point in self.points)
        told = json.dumps(" ".join(origin), ensure_ascii=False)
        return f'{{\n  "origin": {told},\n  "points": [\n{rows}\n  ]\n}}\n'

    @classmethod
    def read(cls, path: Path) -> RankCurve:
        """What `to_json` gave, in a file.

        Raises:
            InputError: it is missing, or no such file.
        """
        try:
            points = tuple(Point(**point) for point in json.loads(path.read_text(encoding="utf-8"))["points"])
            whole = all(type(of.rank) is int and of.rank >= 0 and 0 <= of.depth <= 1 for of in points)
        except OSError as error:
            raise InputError(
                f"{str(path)!r} can't be read ({error.strerror}); mend the path", field="space.prior"
            ) from None
        except (ValueError, KeyError, TypeError):
            whole, points = False, ()
        if not whole or not points:
            raise InputError(
                f"{str(path)!r} holds no rank curve; name what export --to rank-curve wrote", field="space.prior"
            )
        return cls(points)


@dataclass(frozen=True)
class _Place:
    """Where a module stands in its model."""

    name: str
    kind: str
    half: str
    depth: float

    def at(self, rank: int) -> Point:
        return Point(self.kind, self.half, self.depth, rank)


def _places(names: Iterable[str]) -> list[_Place]:
    """The places of modules that stand in layers; each stack of layers has its own depth."""
    inside = sorted((name for name in names if layer_of(name) != name), key=_stack)
    found = []
    for _, stacked in groupby(inside, key=_stack):
        of_stack = list(stacked)
        last = max(_number(name) for name in of_stack)
        for name in of_stack:
            half = block_of(name).rpartition("/")[2]
            found.append(_Place(name, kind_of(name), half, _number(name) / last if last else 0.0))
    return found


def _stack(name: str) -> str:
    return layer_of(name).rpartition(".")[0]


def _number(name: str) -> int:
    return int(layer_of(name).rpartition(".")[2])
