"""Selects the attention implementation that trains short texts fastest on a CPU."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MAX_TOKENS = 384  # the eager form is the faster one up to this length


@contextmanager
def eager_attention_if_short(models: Mapping[str, Any], dtype: torch.dtype) -> Iterator[None]:
    """Trains short texts in bfloat16 on a CPU with the eager attention of transformers (plain matrix products).

    PyTorch's fused kernel does not keep the matrix of attention weights; it recomputes it in the backward pass. On a
    CPU in bfloat16 that takes 5 times as long as the eager form at 64 tokens, twice as long at 256, and about as
    long at 1,024 (torch 2.13, forward and backward). The eager form's memory grows with the square of the length.
    In float32 and without gradient the fused kernel is no slower, so it is used there.

    Args:
        models: base models of transformers.
        dtype: type in which they compute.
    """
    if dtype != torch.bfloat16:
        yield
        return
    original = {id(model): model.config._attn_implementation for model in models.values()}

    def choose(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs = kwargs.get("input_ids", args[0] if args else None)
        short = inputs is not None and inputs.device.type == "cpu" and inputs.shape[1] <= _MAX_TOKENS
        model.set_attn_implementation("eager" if short and torch.is_grad_enabled() else original[id(model)])

    handles = [model.register_forward_pre_hook(choose, with_kwargs=True) for model in models.values()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for model in models.values():
            model.set_attn_implementation(original[id(model)])
