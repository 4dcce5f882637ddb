"""What a model offers to the search: its linear layers, and how they group into rank dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from transformers.pytorch_utils import Conv1D

from rank_search.core.errors import InputError, did_you_mean
from rank_search.core.module_names import block_of, layer_of
from rank_search.core.ranks import Shape
from rank_search.core.space import JointSetting, Space

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from rank_search.config import StudyConfig


def linear_modules(model: nn.Module) -> dict[str, Shape]:
    """Every ``nn.Linear`` and GPT-2 ``Conv1D`` of a model, by module name; meta tensors will do."""
    shapes = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            shapes[name] = Shape(module.in_features, module.out_features)
        elif isinstance(module, Conv1D):
            shapes[name] = Shape(*module.weight.shape)
    return shapes


def build_space(model: nn.Module, config: StudyConfig, head: Collection[str] = ()) -> Space:
    """Reads the space off a model, whose tensors may be on the meta device.

    Args:
        model: the base model, or a ``ModuleDict`` of several.
        config: the study file.
        head: modules that are trained whole, and so are not adapted.

    Raises:
        InputError: a target names no module, nothing can be adapted, or a ladder rank is above
            min(in, out) of a module.
    """
    settings = config.space
    shapes = {name: shape for name, shape in linear_modules(model).items() if not _within(name, head)}
    chosen = _targets(shapes, settings.targets)
    for name in chosen:
        if settings.ladder[-1] > min(shapes[name]):
            raise InputError(
                f"rank {settings.ladder[-1]} is above min(in, out) = {min(shapes[name])} of {name!r}; lower it",
                field="space.ladder",
            )
    grouping: dict[str, Callable[[str], str]] = {"layer": layer_of, "block": block_of, "module": str}
    group = grouping[settings.group_by]
    dimensions: dict[str, tuple[str, ...]] = {}
    for name in chosen:
        dimensions[group(name)] = (*dimensions.get(group(name), ()), name)
    return Space(
        shapes={name: shapes[name] for name in chosen},
        dimensions=dimensions,
        ladder=settings.ladder,
        joint=_joint_settings(config),
        transposed=tuple(name for name in chosen if isinstance(model.get_submodule(name), Conv1D)),
    )


def _joint_settings(config: StudyConfig) -> dict[str, JointSetting]:
    """The settings that ``space`` gives a range to."""
    space = config.space
    joint = {}
    if space.learning_rate:
        joint["learning_rate"] = JointSetting(*space.learning_rate, config.training.learning_rate, log=True)
    if space.alpha:
        joint["alpha"] = JointSetting(*space.alpha, config.adapter.alpha, log=True)
    if space.dropout:
        joint["dropout"] = JointSetting(*space.dropout, config.adapter.dropout)
    if space.augmentation:
        joint["augmentation"] = JointSetting(0, 1, 1, switch=True)
    return joint


def _within(name: str, modules: Collection[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


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
        raise InputError(
            f"{targets!r} finds no linear layer to adapt in this model; name modules, or another model",
            field="space.targets",
        )
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
