"""What a pack of adapters is made of: its rank maps, their initial adapters, and their trainable parameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from rank_search.config import AdapterConfig
    from rank_search.core.ranks import RankMap


@dataclass(frozen=True)
class AdapterInit:
    """The weights that an adapter starts with, instead of those by the study's init rule.

    Attributes:
        factors: module → (A ``[in, rank]``, B ``[rank, out]``); they may have more components than a map uses.
        scale: the factor s at every rank; None for the study's scale rule.
        head: module → name of a weight in it → the weight; empty for a fresh head.
    """

    factors: Mapping[str, tuple[Tensor, Tensor]]
    scale: float | None = None
    head: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)


@dataclass(frozen=True)
class Member:
    """One rank map of a pack.

    Attributes:
        rank_map: the ranks.
        config: scale, dropout and init rule of its adapters.
        seed: draws A, and dropout during training.
        init: initial weights; None for the init rule and B = 0.
    """

    rank_map: RankMap
    config: AdapterConfig
    seed: int
    init: AdapterInit | None = None


@dataclass(frozen=True)
class TrainableParameters:
    """The parameters that are trained in one base model.

    Attributes:
        adapter: A and B of its modules.
        head: weights of the modules that are trained whole.
    """

    adapter: Sequence[nn.Parameter]
    head: Sequence[nn.Parameter] = ()

    @property
    def all(self) -> list[nn.Parameter]:
        """The adapter's parameters, then the head's."""
        return [*self.adapter, *self.head]
