"""Ranks as a function of depth: carries the rank map of one model over to another model."""

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
class CurvePoint:
    """The rank of one module.

    Attributes:
        kind: the module's name within its layer, such as ``self_attn.q_proj``.
        half: ``attention`` or ``feed-forward``.
        depth: depth of the layer in its stack, from 0 (first) to 1 (last).
        rank: the module's rank.
    """

    kind: str
    half: str
    depth: float
    rank: int


@dataclass(frozen=True)
class RankCurve:
    """Ranks by kind of module and depth, independent of the number of layers."""

    points: tuple[CurvePoint, ...]

    @classmethod
    def from_rank_map(cls, rank_map: RankMap) -> RankCurve:
        """The curve of a rank map; modules outside all layers are left out."""
        return cls(
            tuple(
                CurvePoint(module.kind, module.half, module.depth, rank_map.ranks[module.name])
                for module in module_positions(rank_map.ranks)
            )
        )

    def rank_map(self, space: Space) -> RankMap:
        """The map of another space that is nearest to this curve.

        A module takes its rank from the points of the same kind; where there are none, from the points of the same
        half of a layer; where there are none either, from all points. Ranks between two depths are interpolated
        linearly. A dimension takes the mean rank of its modules, weighted by their parameters per rank, rounded to
        the nearest rank of the ladder.
        """
        wanted = {module.name: self._interpolate(module) for module in module_positions(space.shapes)}
        ranks: dict[str, int] = {}
        for modules in space.dimensions.values():
            in_layers = [module for module in modules if module in wanted]
            parameters = [sum(space.shapes[module]) for module in in_layers]
            mean = float(np.average([wanted[module] for module in in_layers], weights=parameters)) if in_layers else 0.0
            nearest = min(space.ladder, key=lambda rank: (abs(rank - mean), rank))
            ranks |= dict.fromkeys(modules, nearest)
        return RankMap({module: ranks[module] for module in space.shapes})

    def _interpolate(self, module: ModulePosition) -> float:
        points = [point for point in self.points if point.kind == module.kind]
        points = points or [point for point in self.points if point.half == module.half] or list(self.points)
        ranks_by_depth: dict[float, list[int]] = defaultdict(list)
        for point in points:
            ranks_by_depth[point.depth].append(point.rank)
        depths = sorted(ranks_by_depth)
        return float(np.interp(module.depth, depths, [np.mean(ranks_by_depth[depth]) for depth in depths]))

    def to_json(self, origin: Sequence[str] = ()) -> str:
        """A JSON object with one row per point.

        Args:
            origin: lines that say where the curve comes from; they are stored as one text.
        """
        rows = ",\n".join(f"    {json.dumps(asdict(point))}" for point in self.points)
        origin_text = json.dumps(" ".join(origin), ensure_ascii=False)
        return f'{{\n  "origin": {origin_text},\n  "points": [\n{rows}\n  ]\n}}\n'

    @classmethod
    def read(cls, path: Path) -> RankCurve:
        """Reads a file that holds the text of `to_json`.

        Raises:
            InputError: the file is missing, or holds no rank curve.
        """
        try:
            points = tuple(CurvePoint(**point) for point in json.loads(path.read_text(encoding="utf-8"))["points"])
            valid = all(type(point.rank) is int and point.rank >= 0 and 0 <= point.depth <= 1 for point in points)
        except OSError as error:
            raise InputError(
                f"{str(path)!r} can't be read ({error.strerror}); check the path", field="space.prior"
            ) from None
        except (ValueError, KeyError, TypeError):
            valid, points = False, ()
        if not valid or not points:
            raise InputError(
                f"{str(path)!r} holds no rank curve; name a file that export --to rank-curve wrote",
                field="space.prior",
            )
        return cls(points)


@dataclass(frozen=True)
class ModulePosition:
    """The position of a module in its model.

    Attributes:
        name: the module's full name.
        kind: the module's name within its layer.
        half: ``attention`` or ``feed-forward``.
        depth: depth of the layer in its stack, from 0 (first) to 1 (last).
    """

    name: str
    kind: str
    half: str
    depth: float


def module_positions(names: Iterable[str]) -> list[ModulePosition]:
    """Positions of the modules that lie in layers; depth is counted within each stack of layers."""
    in_layers = sorted((name for name in names if layer_of(name) != name), key=_stack)
    positions = []
    for _, stacked in groupby(in_layers, key=_stack):
        modules = list(stacked)
        last = max(_layer_number(name) for name in modules)
        for name in modules:
            half = block_of(name).rpartition("/")[2]
            depth = _layer_number(name) / last if last else 0.0
            positions.append(ModulePosition(name, kind_of(name), half, depth))
    return positions


def _stack(name: str) -> str:
    """The stack of layers that holds a module, such as ``encoder.layer``."""
    return layer_of(name).rpartition(".")[0]


def _layer_number(name: str) -> int:
    return int(layer_of(name).rpartition(".")[2])
