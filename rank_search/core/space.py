"""What a study searches: one rank for each group of modules, and perhaps settings beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rank_search.core.candidate import Candidate
from rank_search.core.ranks import RankMap, Shape

if TYPE_CHECKING:
    from collections.abc import Mapping

_REFERENCE_MARGIN = 1.1


@dataclass(frozen=True)
class JointSetting:
    """A setting that is searched beside the ranks.

    Attributes:
        low: its lowest value.
        high: its highest value.
        default: the study file's own value, at which baselines are trained.
        log: it is drawn on a log scale.
        switch: it is 0 or 1.
    """

    low: float
    high: float
    default: float
    log: bool = False
    switch: bool = False


@dataclass(frozen=True)
class Space:
    """The search space of a study: each rank dimension is an index into the ladder.

    A proposal is a mapping of dimension → ladder index, and joint setting → value. Indices, not ranks, are
    what the study's samplers see: ranks are ordinal, and evenly spaced on the ladder.

    Attributes:
        shapes: adaptable module → (in, out), in the model's order.
        dimensions: rank dimension → the modules that share its rank.
        ladder: the ranks that an index stands for.
        joint: joint setting → its range.
        transposed: modules that are GPT-2 ``Conv1D``, whose weights PEFT must transpose.
        left_out: module, or weight, that the study's targets mean and that is not searched → why not.
    """

    shapes: Mapping[str, Shape]
    dimensions: Mapping[str, tuple[str, ...]]
    ladder: tuple[int, ...]
    joint: Mapping[str, JointSetting] = field(default_factory=dict)
    transposed: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> float:
        """How many proposals the space holds: infinitely many where a joint setting is a real number."""
        if not all(setting.switch for setting in self.joint.values()):
            return math.inf
        size: int = len(self.ladder) ** len(self.dimensions) * 2 ** len(self.joint)
        return size

    def settings(self, proposal: Mapping[str, float]) -> dict[str, float]:
        """The joint settings of a proposal."""
        return {name: proposal[name] for name in self.joint}

    def rank_map(self, proposal: Mapping[str, float]) -> RankMap:
        """The map that a proposal stands for, with every adaptable module named, in the model's order."""
        ranks = {
            module: self.ladder[int(proposal[name])] for name, modules in self.dimensions.items() for module in modules
        }
        return RankMap({module: ranks[module] for module in self.shapes})

    def candidate(self, proposal: Mapping[str, float]) -> Candidate:
        """The candidate that a proposal stands for, trained from scratch."""
        return Candidate(self.rank_map(proposal), self.settings(proposal))

    def proposal(self, rank_map: RankMap, settings: Mapping[str, float] | None = None) -> dict[str, float]:
        """The proposal that stands for a map, at these joint settings or else at the study file's own.

        Raises:
            ValueError: the map is not in this space.
        """
        if unknown := rank_map.adapted.keys() - self.shapes.keys():
            raise ValueError(f"{min(unknown)!r} is not an adaptable module of this study")
        defaults = {name: setting.default for name, setting in self.joint.items()}
        given = {name: value for name, value in (settings or {}).items() if name in self.joint}
        indices: dict[str, float] = {**defaults, **given}
        for dimension, modules in self.dimensions.items():
            ranks = {rank_map.ranks.get(module, 0) for module in modules}
            if len(ranks) > 1:
                raise ValueError(f"{dimension!r} has one rank in this study, but the map gives {sorted(ranks)}")
            rank = ranks.pop()
            if rank not in self.ladder:
                raise ValueError(f"rank {rank} of {dimension!r} is not on the ladder {list(self.ladder)}")
            indices[dimension] = self.ladder.index(rank)
        return indices

    def uniform(self, rank: int) -> RankMap:
        """The map with the same rank everywhere."""
        return RankMap(dict.fromkeys(self.shapes, rank))

    def parameters(self, rank_map: RankMap) -> int:
        """Trainable parameters of a map's adapters."""
        return rank_map.trainable_parameters(self.shapes)

    @property
    def most_parameters(self) -> int:
        """Trainable parameters of the largest map."""
        return self.parameters(self.uniform(self.ladder[-1]))

    @property
    def reference_parameters(self) -> float:
        """The number of parameters of the reference point: somewhat above the largest map's, so that it counts too."""
        return _REFERENCE_MARGIN * self.most_parameters

    @property
    def least_parameters(self) -> int:
        """Trainable parameters of the smallest map."""
        return self.parameters(self.uniform(self.ladder[0]))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Space:
        """The space that ``dataclasses.asdict`` and JSON have been through."""
        return cls(
            shapes={name: Shape(*shape) for name, shape in content["shapes"].items()},
            dimensions={name: tuple(modules) for name, modules in content["dimensions"].items()},
            ladder=tuple(content["ladder"]),
            joint={name: JointSetting(**setting) for name, setting in content["joint"].items()},
            transposed=tuple(content["transposed"]),
            left_out=content.get("left_out", {}),  # studies before it have none
        )
