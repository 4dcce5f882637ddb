"""The cost of a training step: its floating-point operations, and how fast this machine computes them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from rank_search.adapters import base_models
from rank_search.core.module_names import layer_of
from rank_search.models.modules import linear_modules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from rank_search.core.ranks import RankMap, Shape
    from rank_search.tasks.base import BatchShape

_MATMUL = 2048  # rows and columns of the matrices in the measurement of the peak
_REPEATS = 8


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of matrix products; the other operations of a step are few beside them.

    Attributes:
        forward: operations of the frozen base's forward pass.
        backward: operations for the gradients of the base's activations, down to the lowest adapted layer.
        adapters: operations of the adapters, forward and backward.
    """

    forward: float = 0.0
    backward: float = 0.0
    adapters: float = 0.0

    @property
    def total(self) -> float:
        """Operations of the whole step."""
        return self.forward + self.backward + self.adapters

    def __add__(self, other: Flops) -> Flops:
        return Flops(self.forward + other.forward, self.backward + other.backward, self.adapters + other.adapters)


def step_flops(backbone: nn.Module, rank_map: RankMap, texts: Mapping[str, Sequence[BatchShape]]) -> Flops:
    """Counts the floating-point operations of one training step of one map.

    For each token:
    - A linear layer in × out costs 2 · in · out forward, and the same backward for the gradient of its input. The
      gradient of its weight is not computed, because the weight is frozen.
    - Attention costs 4 · length · width forward (QKᵀ and the weighted sum), and twice that backward.
    - An adapter of rank r costs 2 · r · (in + out) forward, and twice that backward.

    The backward pass ends at the lowest adapted layer.

    Args:
        backbone: the base model, or a ``ModuleDict`` of several; its tensors may be on the meta device.
        rank_map: the ranks.
        texts: the step's inputs of each base model, by its prefix.
    """
    total = Flops()
    for prefix, model in base_models(backbone).items():
        shapes = _plain_names(model)
        layers = list(dict.fromkeys(layer_of(name) for name in shapes if layer_of(name) != name))
        ranks = rank_map.under(prefix).adapted
        lowest = min((layers.index(layer_of(name)) for name in ranks if layer_of(name) in layers), default=len(layers))
        config: Any = model.config
        for inputs in texts[prefix]:
            total += _model_flops(shapes, layers, lowest, ranks, config.get_text_config().hidden_size, inputs)
    return total


def _plain_names(model: nn.Module) -> dict[str, Shape]:
    """Shapes of the linear layers by their names in the base model, whether adapters are injected or not."""
    return {name.removesuffix(".base"): shape for name, shape in linear_modules(model).items()}


def _model_flops(
    shapes: Mapping[str, Shape],
    layers: Sequence[str],
    lowest: int,
    ranks: Mapping[str, int],
    width: int,
    texts: BatchShape,
) -> Flops:
    tokens = texts.rows * texts.length
    weights = {layer: sum(s[0] * s[1] for name, s in shapes.items() if layer_of(name) == layer) for layer in layers}
    output = sum(s[0] * s[1] for name, s in shapes.items() if layer_of(name) == name and name.endswith("head"))
    attention = 4.0 * texts.length * width
    predicted = 2.0 * output * texts.rows * texts.predicted
    trained = layers[lowest:]
    return Flops(
        forward=tokens * sum(2.0 * weights[layer] + attention for layer in layers) + predicted,
        backward=tokens * sum(2.0 * weights[layer] + 2 * attention for layer in trained) + bool(trained) * predicted,
        adapters=6.0 * tokens * sum(rank * sum(shapes[name]) for name, rank in ranks.items()),
    )


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Measures the FLOP/s of large matrix products on this machine; no training step exceeds it."""
    a, b = (torch.ones(_MATMUL, _MATMUL, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(_REPEATS):
        started = time.perf_counter()
        (a @ b)[0, 0].item()
        best = min(best, time.perf_counter() - started)
    return 2 * _MATMUL**3 / best
