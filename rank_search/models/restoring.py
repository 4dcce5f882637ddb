"""Puts a shared model back into the state it had, whatever a recipe or a library did to it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rank_search.core.errors import OutOfService

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

# Containers that torch keeps in a module and changes in place: children, weights, buffers, and hooks of every kind.
_CONTAINERS = ("_modules", "_parameters", "_buffers", "_non_persistent_buffers_set")


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Puts back what the block has changed in a model: its modules, hooks, flags, training mode and configuration.

    Memory: only references are kept, no weight is copied.

    Raises:
        OutOfService: a frozen weight itself was changed, which can't be put back.
    """
    modules = [_ModuleState.read(module) for module in model.modules()]
    weights = [(name, weight, weight.requires_grad, weight._version) for name, weight in model.named_parameters()]
    try:
        yield
    finally:
        for state in modules:
            state.restore()
        for _, weight, requires_grad, _ in weights:
            weight.requires_grad_(requires_grad)
            weight.grad = None
        changed = [name for name, weight, _, version in weights if weight._version != version]
    if changed:
        raise OutOfService(f"a training has changed {changed[0]!r} of the frozen base model; run the command again")


@dataclass(frozen=True)
class _ModuleState:
    """What one module holds.

    Attributes:
        module: the module.
        kind: its class.
        attributes: its attributes; containers of torch are copies.
        settings: attributes of its configuration, if it has one.
    """

    module: nn.Module
    kind: type
    attributes: dict[str, Any]
    settings: dict[str, Any] | None

    @classmethod
    def read(cls, module: nn.Module) -> _ModuleState:
        attributes = {
            name: value.copy() if name in _CONTAINERS or name.endswith("_hooks") else value
            for name, value in vars(module).items()
        }
        config = attributes.get("config")
        settings = dict(vars(config)) if hasattr(config, "__dict__") else None
        return cls(module, type(module), attributes, settings)

    def restore(self) -> None:
        self.module.__class__ = self.kind
        current = vars(self.module)
        for name in current.keys() - self.attributes.keys():
            del current[name]
        for name, value in self.attributes.items():
            if name in _CONTAINERS or name.endswith("_hooks"):
                _refill(current.setdefault(name, value), value)
            else:
                current[name] = value
        if self.settings is not None:
            config = vars(self.attributes["config"])
            config.clear()
            config.update(self.settings)


def _refill(container: Any, content: Any) -> None:
    """Gives a dictionary or a set its former content; the object stays, as others may hold it."""
    if container is not content:
        container.clear()
        container.update(content)
