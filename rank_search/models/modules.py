"""Builds the search space of a model: its linear layers, grouped into dimensions that share a rank."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn.modules.conv import _ConvNd
from transformers.pytorch_utils import Conv1D

from rank_search.core.errors import InputError, did_you_mean
from rank_search.core.module_names import block_of, layer_of
from rank_search.core.ranks import Shape
from rank_search.core.space import JointSetting, Space

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from rank_search.config import StudyConfig


_MOST_MODULES = 400  # that each get a rank of their own unless the study file says otherwise


def linear_modules(model: nn.Module) -> dict[str, Shape]:
    """Shapes of every ``nn.Linear`` and GPT-2 ``Conv1D`` of a model, by module name; meta tensors are enough."""
    shapes = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            shapes[name] = Shape(module.in_features, module.out_features)
        elif isinstance(module, Conv1D):
            shapes[name] = Shape(*module.weight.shape)
    return shapes


def build_space(
    model: nn.Module,
    config: StudyConfig,
    head: Collection[str] = (),
    unsearchable: Mapping[str, str] | None = None,
) -> Space:
    """Builds the search space of a model, whose tensors may be on the meta device.

    What the targets mean and what is not searched, it keeps by name, with the reason: modules that are unsearchable,
    and weights inside layers that are no linear layers, such as those of fused experts.

    Args:
        model: the base model, or a ``ModuleDict`` of several.
        config: the study file.
        head: modules that are fully trained, and so get no adapter.
        unsearchable: module → why it can't be searched; it may name modules that the targets do not mean.

    Raises:
        InputError: a target names no module or only unsearchable ones, the model has no layer to adapt, or a rank of
            the ladder is above min(in, out) of a module.
    """
    settings = config.space
    shapes = {name: shape for name, shape in linear_modules(model).items() if not _is_inside(name, head)}
    meant = _target_modules(shapes, settings.targets)
    left_out = {name: (unsearchable or {})[name] for name in meant if name in (unsearchable or {})}
    _check_searchable(meant, left_out, settings.targets)
    targets = [name for name in meant if name not in left_out]
    for name in targets:
        if settings.ladder[-1] > min(shapes[name]):
            raise InputError(
                f"rank {settings.ladder[-1]} is above min(in, out) = {min(shapes[name])} of {name!r}; lower it",
                field="space.ladder",
            )
    grouping: dict[str, Callable[[str], str]] = {"layer": layer_of, "block": block_of, "module": str}
    by = settings.group_by
    group = grouping[("module" if len(targets) <= _MOST_MODULES else "layer") if by == "auto" else by]
    dimensions: dict[str, tuple[str, ...]] = {}
    for name in targets:
        dimensions[group(name)] = (*dimensions.get(group(name), ()), name)
    return Space(
        shapes={name: shapes[name] for name in targets},
        dimensions=dimensions,
        ladder=settings.ladder,
        joint=_joint_settings(config),
        transposed=tuple(name for name in targets if isinstance(model.get_submodule(name), Conv1D)),
        left_out=left_out | _fused_weights(model, settings.targets),
    )


def _check_searchable(meant: Collection[str], left_out: Mapping[str, str], targets: str | Sequence[str]) -> None:
    """Checks that each target means a module that can be searched.

    Raises:
        InputError: one does not.
    """
    for target in [targets] if isinstance(targets, str) else targets:
        found = [name for name in meant if isinstance(targets, str) or _is_named(name, target)]
        if all(name in left_out for name in found):
            raise InputError(
                f"{target!r} means only modules that can't be searched: {found[0]!r} {left_out[found[0]]}; name others",
                field="space.targets",
            )


def _fused_weights(model: nn.Module, targets: str | Sequence[str]) -> dict[str, str]:
    """Weights inside layers that a whole group of targets means, and that no linear layer holds → why they get no rank.

    Experts of a mixture are often one stack of matrices, ``[experts, out, in]``.
    """
    if not isinstance(targets, str):
        return {}
    in_layers = {name: weight.numel() for name, weight in model.named_parameters() if layer_of(name) != name}
    fused = [
        f"{parent}.{name}"
        for parent, module in model.named_modules()
        for name, weight in module.named_parameters(recurse=False)
        if weight.dim() > 2 and not isinstance(module, _ConvNd) and f"{parent}.{name}" in in_layers
    ]
    fused = [name for name in fused if targets == "all-linear" or block_of(name).endswith(f"/{targets}")]
    share = sum(in_layers[name] for name in fused) / max(1, sum(in_layers.values()))
    reason = f"is no linear layer but a stack of matrices; all such weights are {share:.0%} of those in layers"
    return dict.fromkeys(fused, reason)


def _joint_settings(config: StudyConfig) -> dict[str, JointSetting]:
    """The settings for which ``space`` gives a range; they are searched together with the ranks."""
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


def _is_inside(name: str, modules: Collection[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _target_modules(shapes: Mapping[str, Shape], targets: str | Sequence[str]) -> list[str]:
    """Names of the target modules, in the model's order.

    ``all-linear``, ``attention`` and ``feed-forward`` choose modules inside the model's layers. A pooler or an
    output head lies outside the layers, and is adapted only if it is named.
    """
    if not isinstance(targets, str):
        return _modules_named(shapes, targets)
    in_layers = [name for name in shapes if layer_of(name) != name]
    if targets != "all-linear":
        in_layers = [name for name in in_layers if block_of(name).endswith(f"/{targets}")]
    if not in_layers:
        raise InputError(
            f"{targets!r} matches no linear layer of this model; name modules, or use another model",
            field="space.targets",
        )
    return in_layers


def _modules_named(shapes: Mapping[str, Shape], targets: Iterable[str]) -> list[str]:
    """Modules whose name is a target or ends in ``.target``, as in PEFT's ``target_modules``."""
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
