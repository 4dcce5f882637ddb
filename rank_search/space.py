"""What a model offers to the search: adaptable modules, grouped into dimensions with one rank each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn
from transformers.pytorch_utils import Conv1D

from rank_search.errors import InputError, did_you_mean
from rank_search.ranks import RankMap, Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from rank_search.config import SpaceConfig

_ATTENTION = re.compile("attn|attention", re.IGNORECASE)
_LAYER = re.compile(r"^(.*?\.\d+)\.(.+)$")


def linear_modules(model: nn.Module) -> dict[str, Shape]:
    """Every ``nn.Linear`` and GPT-2 ``Conv1D`` of a model, by module name; meta tensors will do."""
    shapes = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            shapes[name] = Shape(module.in_features, module.out_features)
        elif isinstance(module, Conv1D):
            shapes[name] = Shape(*module.weight.shape)
    return shapes


def layer_of(name: str) -> str:
    """The layer a module belongs to, such as ``encoder.layer.3``; a module outside layers is its own."""
    match = _LAYER.match(name)
    return match.group(1) if match else name


def block_of(name: str) -> str:
    """The module's layer and its half of it, such as ``encoder.layer.3/attention``."""
    match = _LAYER.match(name)
    if not match:
        return name
    return f"{match.group(1)}/{'attention' if _ATTENTION.search(match.group(2)) else 'feed-forward'}"


@dataclass(frozen=True)
class Space:
    """The search space of a study: each dimension is an index into the ladder.

    A proposal is a mapping of dimension → ladder index. Indices, not ranks, are what the study's
    samplers see: ranks are ordinal, and evenly spaced on the ladder.
    """

    shapes: Mapping[str, Shape]
    dimensions: Mapping[str, tuple[str, ...]]
    ladder: tuple[int, ...]
    fan_in_fan_out: bool = False
    """The modules are GPT-2 ``Conv1D``, which PEFT must be told."""

    @property
    def size(self) -> int:
        """How many maps the space holds."""
        size: int = len(self.ladder) ** len(self.dimensions)
        return size

    def rank_map(self, proposal: Mapping[str, int]) -> RankMap:
        """The map that a proposal stands for, with every adaptable module named."""
        return RankMap(
            {
                module: self.ladder[proposal[dimension]]
                for dimension, modules in self.dimensions.items()
                for module in modules
            }
        )

    def proposal(self, rank_map: RankMap) -> dict[str, int]:
        """The proposal that stands for a map.

        Raises:
            ValueError: the map is not in this space.
        """
        if strangers := rank_map.adapted.keys() - self.shapes.keys():
            raise ValueError(f"{min(strangers)!r} is not an adaptable module of this study")
        indices = {}
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
    def least_parameters(self) -> int:
        """Trainable parameters of the smallest map."""
        return self.parameters(self.uniform(self.ladder[0]))


def build_space(model: nn.Module, config: SpaceConfig) -> Space:
    """Reads the space off a model, whose tensors may be on the meta device.

    Raises:
        InputError: a target names no module, nothing can be adapted, or a ladder rank is above
            min(in, out) of a module.
    """
    shapes = linear_modules(model)
    chosen = _targets(shapes, config.targets)
    for name in chosen:
        if config.ladder[-1] > min(shapes[name]):
            raise InputError(
                f"rank {config.ladder[-1]} is above min(in, out) = {min(shapes[name])} of {name!r}; lower it",
                field="space.ladder",
            )
    grouping: dict[str, Callable[[str], str]] = {"layer": layer_of, "block": block_of, "module": str}
    group = grouping[config.group_by]
    dimensions: dict[str, tuple[str, ...]] = {}
    for name in chosen:
        dimensions[group(name)] = (*dimensions.get(group(name), ()), name)
    conv1d = isinstance(model.get_submodule(chosen[0]), Conv1D)
    return Space({name: shapes[name] for name in chosen}, dimensions, config.ladder, fan_in_fan_out=conv1d)


def _targets(shapes: Mapping[str, Shape], targets: str | Sequence[str]) -> list[str]:
    """Names of the target modules, in the model's order.

    The words choose within the model's layers: a pooler or an output head, which stands outside them,
    is adapted only when it is named.
    """
    if not isinstance(targets, str):
        return _named(shapes, targets)
    inside = [name for name in shapes if layer_of(name) != name]
    if targets != "all-linear":
        inside = [name for name in inside if block_of(name).endswith(f"/{targets}")]
    if not inside:
        raise InputError(f"{targets!r} finds no linear layer in this model; name modules", field="space.targets")
    return inside


def _named(shapes: Mapping[str, Shape], targets: Iterable[str]) -> list[str]:
    """Modules whose name is a target or ends in ``.target``, as PEFT's ``target_modules`` reads it."""
    endings = {name.rpartition(".")[2] for name in shapes}
    for target in targets:
        if not any(_is_named(name, target) for name in shapes):
            raise InputError(
                f"{target!r} names no linear layer of this model; {did_you_mean(target, endings)}",
                field="space.targets",
            )
    return [name for name in shapes if any(_is_named(name, target) for target in targets)]


def _is_named(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")
