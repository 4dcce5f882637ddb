"""Tracks which maps' rows pass through each layer of a base model, and computes equal rows only once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle


class UnpackableError(RuntimeError):
    """The model does not keep the rows of several maps apart, so the maps must be trained one by one."""


class RowRouter:
    """Knows which maps' rows a module of one base model sees.

    A batch holds one map's rows after another's: ``[maps · batch, length, …]``. The rows of two maps are equal until
    one of the two has met an adapter. Until then the rows of one map stand in for the rows of all such maps. The
    layers below a map's lowest adapted layer therefore cost nothing extra.

    The router records which maps have met an adapter in the order in which the layers are called. It shares rows only
    if the model's inputs are equal for all maps, no layer keeps anything for a later call (such as a key-value
    cache), and every tensor that a layer receives can be split by rows.

    Attributes:
        active: numbers of the maps in the batch, in the order of their rows.
        dtype: type in which adapters are multiplied.
    """

    def __init__(self) -> None:
        self.active: list[int] = []
        self.dtype = torch.float32
        self._adapted_layers: Mapping[str, set[int]] = {}
        self._can_share = False
        self._rows_per_map: int | None = None
        self._separate: set[int] = set()  # maps that have met an adapter in this forward pass
        self._in_layer: list[int] | None = None  # maps whose rows pass the current layer; None if all rows pass

    @property
    def present(self) -> list[int]:
        """The maps whose rows the current module sees."""
        return self.active if self._in_layer is None else self._in_layer

    def reset(self, maps: int, adapted_layers: Mapping[str, set[int]]) -> None:
        """Puts all maps into the batch.

        Args:
            maps: how many there are.
            adapted_layers: full name of a layer → the maps that have an adapter in it.
        """
        self.active = list(range(maps))
        self._adapted_layers = adapted_layers

    def attach(self, model: nn.Module, prefix: str, layers: Iterable[str]) -> list[RemovableHandle]:
        """Registers hooks on a base model and its layers, and returns their handles."""
        handles = [model.register_forward_pre_hook(self._before_model, with_kwargs=True)]
        for name in layers:
            layer = model.get_submodule(name)
            handles += [
                layer.register_forward_pre_hook(self._before_layer(prefix + name), with_kwargs=True),
                layer.register_forward_hook(self._after_layer),
            ]
        return handles

    def separate(self, maps: set[int]) -> None:
        """Records that these maps have met an adapter: their rows can no longer be shared."""
        self._separate |= maps

    def check(self, x: Tensor) -> None:
        """Checks that a module's input holds the rows of several maps, one map's after another's.

        Raises:
            UnpackableError: it does not.
        """
        expected = None if self._rows_per_map is None else self._rows_per_map * len(self.present)
        if len(self.active) > 1 and expected is not None and len(x) != expected:
            raise UnpackableError(f"a linear layer takes {list(x.shape)} for {self._rows_per_map} rows of each map")

    def _before_model(self, _model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._separate, self._in_layer = set(), None
        inputs = kwargs.get("input_ids", args[0] if args else None)
        maps = len(self.active)
        self._rows_per_map = None if inputs is None else len(inputs) // max(1, maps)
        cached = kwargs.get("past_key_values") is not None or kwargs.get("use_cache")
        self._can_share = maps > 1 and not cached and inputs is not None and _are_equal(inputs, maps)

    def _before_layer(self, name: str) -> Any:
        def hook(_layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            self.separate(self._adapted_layers.get(name, set()))
            equal = [k for k in self.active if k not in self._separate]
            if not self._can_share or len(equal) < 2:
                return None
            hidden = args[0] if args else kwargs["hidden_states"]
            if not _can_split(hidden, args, kwargs):
                self._can_share = False
                return None
            self._in_layer = [k for k in self.active if k in self._separate or k == equal[0]]
            places = [self.active.index(k) for k in self._in_layer]
            rows, maps = len(hidden), len(self.active)
            return _select_maps(args, places, rows, maps), _select_maps(kwargs, places, rows, maps)

        return hook

    def _after_layer(self, _layer: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        if self._in_layer is None:
            return None
        passed, self._in_layer = self._in_layer, None
        shared = next(place for place, k in enumerate(passed) if k not in self._separate)
        places = [passed.index(k) if k in self._separate else shared for k in self.active]
        hidden = output[0] if isinstance(output, tuple) else output
        return _select_maps(output, places, len(hidden), len(passed))


def _can_split(hidden: Tensor, *arguments: Any) -> bool:
    """Whether all that a layer receives can be split by rows; BLOOM's positions ``[rows · heads, …]`` can't."""
    if hidden.ndim != 3:
        return False
    return all(tensor.ndim <= 2 or len(tensor) in (1, len(hidden)) for tensor in _tensors(*arguments))


def _tensors(*values: Any) -> Iterator[Tensor]:
    """Yields every tensor in nested tuples, lists and dictionaries."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors(*value)
        elif isinstance(value, dict):
            yield from _tensors(*value.values())


def _are_equal(inputs: Tensor, maps: int) -> bool:
    """Whether all maps have the same rows."""
    by_map = inputs.reshape(maps, -1)
    return bool((by_map == by_map[:1]).all())


def _select_maps(value: Any, places: Sequence[int], rows: int, maps: int) -> Any:
    """Selects the rows of some maps in every tensor that holds the batch's rows, inside tuples and dictionaries."""
    if isinstance(value, tuple):
        return tuple(_select_maps(item, places, rows, maps) for item in value)
    if isinstance(value, dict):
        return {name: _select_maps(item, places, rows, maps) for name, item in value.items()}
    if not isinstance(value, torch.Tensor) or len(value) != rows or value.ndim < 2:
        return value
    # A float tensor of two dimensions holds positional factors [length, size], without a batch; others are masks.
    if value.ndim == 2 and value.is_floating_point():
        return value
    index = torch.tensor(places, device=value.device)
    by_map = value.reshape(maps, -1, *value.shape[1:])
    return by_map.index_select(0, index).flatten(0, 1)
