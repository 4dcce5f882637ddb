"""What a consumer changes in the base model when it loads a bundle, or why it loads none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Refused(Exception):
    """The consumer would not load the bundle; the message is its reason."""


class NotServed(Exception):
    """The consumer takes no adapters for such a base model at all; the message is its reason."""


@dataclass(frozen=True)
class AppliedUpdates:
    """What a consumer changes in the base model when it loads a bundle.

    Attributes:
        updates: by module: A ``[r, in]``, B ``[out, r]`` and the scale s of what it adds, s · B A x.
        replaced: by name: parameters that replace those of the base model.
    """

    updates: dict[str, tuple[Tensor, Tensor, float]]
    replaced: dict[str, Tensor] = field(default_factory=dict)
