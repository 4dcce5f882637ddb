"""Which modules of a base model run at all for a task."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from rank_search.core.module_names import kind_of, layer_of
from rank_search.models.modules import linear_modules

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from rank_search.tasks.base import Task

_NUMBER = re.compile(r"\.\d+(?=\.|$)")


@torch.no_grad()
def uncalled_modules(task: Task) -> dict[str, str]:
    """The linear layers that one training batch never calls, such as those of a vision tower → the reason, in words.

    An adapter there would never be trained. An expert to which this batch sends no token counts as called if another
    expert of its layer is called.
    """
    modules = linear_modules(task.backbone)
    called: set[str] = set()

    def note(name: str) -> Callable[[nn.Module, object], None]:
        return lambda _module, _inputs: called.add(_place(name))

    handles = [task.backbone.get_submodule(name).register_forward_pre_hook(note(name)) for name in modules]
    try:
        task.loss(next(iter(task.training_batches(1, 0))))
    finally:
        for handle in handles:
            handle.remove()
    return {name: "is never called for this task" for name in modules if _place(name) not in called}


def _place(name: str) -> str:
    """A module's layer and its name there without numbers: one place for all experts of a layer."""
    return f"{layer_of(name)} {_NUMBER.sub('.*', kind_of(name))}"
