"""Layers that hold the adapters of several rank maps side by side, on one frozen base.

A batch passes the base model once for each map, one map's rows after another's: ``[maps · batch, length, …]``.
Every linear layer of the base then works on one large matrix, and the adapters on batched products of equal
shape, which is what a GPU likes (PLoRA, arXiv:2508.02932).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import Tensor
    from torch.utils.hooks import RemovableHandle

    from rank_search.core.ranks import Shape


class Rows:
    """Which maps' rows are passing through one base model.

    The rows of two maps differ only once one of them has met an adapter. Until then one map's rows stand for
    those of all such maps, so whatever lies below the lowest adapted layer of a map costs nothing beside the
    others. This goes by the order in which layers are called, and only where the model's inputs are the same
    for all maps, nothing of a layer is kept for a later call, and all that a layer is given can be parted by rows.

    Attributes:
        active: numbers of the maps that are in the batch, in the order of their rows.
        slots: which adapter each map uses, by the map's number.
        dtype: type in which adapters are multiplied.
    """

    def __init__(self) -> None:
        self.active: list[int] = []
        self.slots: list[int] = []
        self.dtype = torch.float32
        self._layers: Mapping[str, set[int]] = {}
        self._shared = False
        self._batch: int | None = None
        self._apart: set[int] = set()
        self._inside: list[int] | None = None

    @property
    def present(self) -> list[int]:
        """The maps whose rows a module sees now."""
        return self.active if self._inside is None else self._inside

    def begin(self, slots: Sequence[int], layers: Mapping[str, set[int]]) -> None:
        """Begins with all maps in the batch.

        Args:
            slots: the adapter of each map.
            layers: of each layer, by its full name, the maps that have an adapter in it.
        """
        self.active = list(range(len(slots)))
        self.slots = list(slots)
        self._layers = layers

    def attach(self, model: nn.Module, prefix: str, layers: Iterable[str]) -> list[RemovableHandle]:
        """Puts hooks on a base model and its layers."""
        handles = [model.register_forward_pre_hook(self._begin, with_kwargs=True)]
        for name in layers:
            layer = model.get_submodule(name)
            handles += [
                layer.register_forward_pre_hook(self._entering(prefix + name), with_kwargs=True),
                layer.register_forward_hook(self._leave),
            ]
        return handles

    def part(self, maps: set[int]) -> None:
        """Says that these maps meet an adapter."""
        self._apart |= maps

    def check(self, x: Tensor) -> None:
        """Checks that what comes to a module are the rows of several maps, one map's after another's.

        Raises:
            UnpackableError: they are not.
        """
        if len(self.active) > 1 and self._batch is not None and len(x) != self._batch * len(self.present):
            raise UnpackableError(f"a linear layer takes {list(x.shape)} for {self._batch} rows of each map")

    def _begin(self, _model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._apart, self._inside = set(), None
        inputs = kwargs.get("input_ids", args[0] if args else None)
        self._batch = None if inputs is None else len(inputs) // max(1, len(self.active))
        cached = kwargs.get("past_key_values") is not None or kwargs.get("use_cache")
        self._shared = len(self.active) > 1 and not cached and inputs is not None and _same(inputs, len(self.active))

    def _entering(self, name: str) -> Any:
        def enter(_layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            self.part(self._layers.get(name, set()))
            alike = [k for k in self.active if k not in self._apart]
            if not self._shared or len(alike) < 2:
                return None
            hidden = args[0] if args else kwargs["hidden_states"]
            # Such as BLOOM's positions, [rows · heads, …]: these can't be parted, so nothing is.
            if hidden.ndim != 3 or any(
                of.ndim > 2 and len(of) not in (1, len(hidden)) for of in _tensors(args, kwargs)
            ):
                self._shared = False
                return None
            self._inside = [k for k in self.active if k in self._apart or k == alike[0]]
            places = [self.active.index(k) for k in self._inside]
            rows = len(hidden)
            return _picked(args, places, rows, len(self.active)), _picked(kwargs, places, rows, len(self.active))

        return enter

    def _leave(self, _layer: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        if self._inside is None:
            return None
        inside, self._inside = self._inside, None
        stand_in = next(place for place, k in enumerate(inside) if k not in self._apart)
        places = [inside.index(k) if k in self._apart else stand_in for k in self.active]
        hidden = output[0] if isinstance(output, tuple) else output
        return _picked(output, places, len(hidden), len(inside))


class UnpackableError(RuntimeError):
    """The model does not keep the rows of several maps apart, so its maps must be trained one by one."""


def _tensors(*values: Any) -> Iterator[Tensor]:
    """Every tensor in whatever holds it."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors(*value)
        elif isinstance(value, dict):
            yield from _tensors(*value.values())


def _same(inputs: Tensor, maps: int) -> bool:
    """Whether the rows of all maps are the same."""
    of_map = inputs.reshape(maps, -1)
    return bool((of_map == of_map[:1]).all())


def _picked(value: Any, places: Sequence[int], rows: int, maps: int) -> Any:
    """The rows of some maps, of every tensor that has the batch's rows, in whatever holds it."""
    if isinstance(value, tuple):
        return tuple(_picked(item, places, rows, maps) for item in value)
    if isinstance(value, dict):
        return {name: _picked(item, places, rows, maps) for name, item in value.items()}
    # A tensor of two dimensions is a mask, or positional factors [length, size] without a batch.
    if not isinstance(value, torch.Tensor) or len(value) != rows or value.ndim < 2:
        return value
    if value.ndim == 2 and value.is_floating_point():
        return value
    index = torch.tensor(places, device=value.device)
    of_map = value.reshape(maps, -1, *value.shape[1:])
    return of_map.index_select(0, index).flatten(0, 1)


class PackedLinear(nn.Module):
    """A frozen linear layer with the adapters of several maps: h = W x + s · B A x, each on its own rows.

    Component j of a map's adapter counts only where j is below the map's rank, so what pads A and B to the
    same size gets no gradient, and stays exactly zero.

    Args:
        base: the frozen layer.
        shape: its two sizes.
        slots: how many adapters there are.
        rank: the largest rank of any map.
        rows: which maps' rows pass.

    Attributes:
        A: ``[slots, in, rank]``.
        B: ``[slots, rank, out]``.
    """

    def __init__(self, base: nn.Module, shape: Shape, slots: int, rank: int, rows: Rows) -> None:
        super().__init__()
        self.base = base
        device = next(base.parameters()).device
        self.A = nn.Parameter(_stack(slots, shape.in_features, rank).to(device))
        self.B = nn.Parameter(_stack(slots, rank, shape.out_features).to(device))
        self._rows = rows
        self._maps: set[int] = set()

    def assign(
        self,
        ranks: Sequence[int],
        scales: Sequence[float],
        dropout: Sequence[float],
        generators: Sequence[torch.Generator],
    ) -> None:
        """Says of each map how many components of its adapter it uses, and how.

        Args:
            ranks: 0 leaves the map's rows alone.
            scales: the factor s.
            dropout: on the adapter's input, in training.
            generators: draw the dropout.
        """
        component = torch.arange(self.A.shape[2])
        gates = (component < torch.tensor(ranks)[:, None]) * torch.tensor(scales)[:, None]
        self._gates = gates.to(self.A)
        self._dropout = list(dropout)
        self._generators = list(generators)
        self._maps = {k for k, rank in enumerate(ranks) if rank}

    @property
    def weight(self) -> Any:
        """The frozen weight, for models that look at its type."""
        return self.base.weight

    @property
    def bias(self) -> Any:
        """The frozen bias."""
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        """Takes and gives ``[maps · batch, …, in or out]``, a map's rows together.

        Maps that have no adapter here are left out, so that neither their dropout is drawn nor anything of
        another map's, such as a NaN, comes to theirs.

        Raises:
            UnpackableError: that is not what it is given.
        """
        self._rows.check(x)
        y: Tensor = self.base(x)
        self._rows.part(self._maps)
        present = self._rows.present
        maps = [k for k in present if k in self._maps]
        if not maps:
            return y
        dtype = self._rows.dtype
        places = torch.tensor([present.index(k) for k in maps], device=x.device)
        of_map = x.reshape(len(present), -1, x.shape[-1])
        of_map = (of_map if len(maps) == len(present) else of_map[places]).to(dtype)
        if self.training and any(self._dropout[k] for k in maps):
            of_map = torch.stack([self._dropped(rows, k) for rows, k in zip(of_map, maps, strict=True)])
        a, b = (_chosen(weight, [self._rows.slots[k] for k in maps]).to(dtype) for weight in (self.A, self.B))
        inner = torch.bmm(of_map, a) * _chosen(self._gates, maps)[:, None, :].to(dtype)
        own = y.reshape(len(present), -1, y.shape[-1])
        if len(maps) == len(present) and y.dtype == dtype:
            return torch.baddbmm(own, inner, b).view(y.shape)
        # Added in the wider of the two types, and rounded once, as PEFT does.
        wide = torch.promote_types(y.dtype, dtype)
        return own.to(wide).index_add(0, places, torch.bmm(inner, b).to(wide)).to(y.dtype).view(y.shape)

    def _dropped(self, x: Tensor, k: int) -> Tensor:
        """Drops each value by chance, and scales the others up; drawn from the map's own generator."""
        p = self._dropout[k]
        if not p:
            return x
        kept = torch.rand(x.shape, device=x.device, generator=self._generators[k]) >= p
        return x * kept / (1 - p)


def _stack(slots: int, rows: int, columns: int) -> Tensor:
    return torch.zeros(slots, rows, columns)


def _chosen(weight: Tensor, slots: list[int]) -> Tensor:
    """The slots of a stack; the stack itself where that is all of them."""
    if slots == list(range(len(weight))):
        return weight
    return weight[torch.tensor(slots, device=weight.device)]


class PackedHead(nn.Module):
    """A module that is trained whole: a copy for each map, each on its own rows."""

    def __init__(self, base: nn.Module, copies: Sequence[nn.Module], rows: Rows) -> None:
        super().__init__()
        self.base = base
        self.copies = nn.ModuleList(copies)
        self._rows = rows

    def forward(self, x: Tensor) -> Tensor:
        """Takes and gives ``[maps · batch, …]``, a map's rows together."""
        self._rows.part({*self._rows.active})
        parts = x.chunk(len(self._rows.present))
        copies = [self.copies[self._rows.slots[k]] for k in self._rows.present]
        return torch.cat([one(_as_weights(part, one)) for one, part in zip(copies, parts, strict=True)])


def _as_weights(x: Tensor, module: nn.Module) -> Tensor:
    """Numbers in the type of a module's weights; what are no numbers but token ids, as they are."""
    return x.to(next(module.parameters()).dtype) if x.is_floating_point() else x
