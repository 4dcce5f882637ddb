"""Layers that hold the adapters of several rank maps side by side, on one frozen base.

A batch passes the base model once for each map, one map's rows after another's: ``[maps · batch, length, …]``.
Every linear layer of the base then works on one large matrix, and the adapters work on batched products of equal
shape. That is fast on a GPU (PLoRA, arXiv:2508.02932).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from rank_search.adapters.rows import RowRouter
    from rank_search.core.ranks import Shape


class PackedLinear(nn.Module):
    """A frozen linear layer with the adapters of several maps: h = W x + s · B A x, each on its own rows.

    A and B are padded to the largest rank. Component j of a map's adapter counts only if j is below the map's rank.
    The padding therefore gets no gradient and stays exactly zero.

    Args:
        base: the frozen layer.
        shape: its two sizes.
        maps: how many there are.
        rank: the largest rank of any map.
        router: knows which maps' rows pass.

    Attributes:
        A: ``[maps, in, rank]``.
        B: ``[maps, rank, out]``.
    """

    def __init__(self, base: nn.Module, shape: Shape, maps: int, rank: int, router: RowRouter) -> None:
        super().__init__()
        self.base = base
        device = next(base.parameters()).device
        self.A = nn.Parameter(_zeros(maps, shape.in_features, rank).to(device))
        self.B = nn.Parameter(_zeros(maps, rank, shape.out_features).to(device))
        self._router = router
        self._adapted: set[int] = set()

    def assign(
        self,
        ranks: Sequence[int],
        scales: Sequence[float],
        dropout: Sequence[float],
        generators: Sequence[torch.Generator],
    ) -> None:
        """Sets how each map uses its adapter.

        Args:
            ranks: how many components the map uses; with 0 the layer leaves the map's rows as they are.
            scales: the factor s.
            dropout: probability of dropout on the adapter's input, in training.
            generators: draw the dropout.
        """
        component = torch.arange(self.A.shape[2])
        gates = (component < torch.tensor(ranks)[:, None]) * torch.tensor(scales)[:, None]
        self._gates = gates.to(self.A)
        self._dropout = list(dropout)
        self._generators = list(generators)
        self._adapted = {k for k, rank in enumerate(ranks) if rank}

    @property
    def weight(self) -> Any:
        """The frozen weight, for models that look at its type."""
        return self.base.weight

    @property
    def bias(self) -> Any:
        """The frozen bias."""
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[maps · batch, …, in]`` to ``[maps · batch, …, out]``; the rows of a map stand together.

        Maps without an adapter here are left out: no dropout is drawn for them, and nothing of another map, such as
        a NaN, reaches their rows.

        Raises:
            UnpackableError: the input has another shape.
        """
        self._router.check(x)
        y: Tensor = self.base(x)
        self._router.separate(self._adapted)
        present = self._router.present
        maps = [k for k in present if k in self._adapted]
        if not maps:
            return y
        dtype = self._router.dtype
        places = torch.tensor([present.index(k) for k in maps], device=x.device)
        by_map = x.reshape(len(present), -1, x.shape[-1])
        by_map = (by_map if len(maps) == len(present) else by_map[places]).to(dtype)
        if self.training and any(self._dropout[k] for k in maps):
            by_map = torch.stack([self._drop(rows, k) for rows, k in zip(by_map, maps, strict=True)])
        a, b = (_select(weight, maps).to(dtype) for weight in (self.A, self.B))
        inner = torch.bmm(by_map, a) * _select(self._gates, maps)[:, None, :].to(dtype)
        base_output = y.reshape(len(present), -1, y.shape[-1])
        if len(maps) == len(present) and y.dtype == dtype:
            return torch.baddbmm(base_output, inner, b).view(y.shape)
        # The sum is taken in the wider of the two types and rounded once, as in PEFT.
        wide = torch.promote_types(y.dtype, dtype)
        return base_output.to(wide).index_add(0, places, torch.bmm(inner, b).to(wide)).to(y.dtype).view(y.shape)

    def _drop(self, x: Tensor, k: int) -> Tensor:
        """Applies dropout to a map's rows, drawn from the map's own generator."""
        p = self._dropout[k]
        if not p:
            return x
        kept = torch.rand(x.shape, device=x.device, generator=self._generators[k]) >= p
        return x * kept / (1 - p)


class PackedHead(nn.Module):
    """A module that is trained whole: one copy for each map, on that map's rows."""

    def __init__(self, base: nn.Module, copies: Sequence[nn.Module], router: RowRouter) -> None:
        super().__init__()
        self.base = base
        self.copies = nn.ModuleList(copies)
        self._router = router

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[maps · batch, …]`` to ``[maps · batch, …]``; the rows of a map stand together."""
        self._router.separate({*self._router.active})
        parts = x.chunk(len(self._router.present))
        copies = [self.copies[k] for k in self._router.present]
        return torch.cat([module(_to_weight_type(part, module)) for module, part in zip(copies, parts, strict=True)])


def _zeros(maps: int, rows: int, columns: int) -> Tensor:
    return torch.zeros(maps, rows, columns)


def _select(stack: Tensor, maps: list[int]) -> Tensor:
    """The parts of some maps; the stack itself, without a copy, if these are all maps in order."""
    if maps == list(range(len(stack))):
        return stack
    return stack[torch.tensor(maps, device=stack.device)]


def _to_weight_type(x: Tensor, module: nn.Module) -> Tensor:
    """Converts floating-point inputs to the type of a module's weights; token ids stay integers."""
    return x.to(next(module.parameters()).dtype) if x.is_floating_point() else x
