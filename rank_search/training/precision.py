"""The type in which the frozen base computes while adapters are trained."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


def training_dtype(setting: str, device: torch.device) -> torch.dtype:
    """The type for ``training.precision``; ``auto`` is bfloat16 if the device multiplies it in hardware."""
    if setting == "bfloat16" or (setting == "auto" and _has_bf16(device)):
        return torch.bfloat16
    return torch.float32


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


@contextmanager
def frozen_weights_in(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Converts the frozen float32 weights of a model to another type, and restores them unchanged at the end.

    The weights are converted once; autocast would convert them in each step. In bfloat16 the activations between
    layers take half the memory. Trainable weights and buffers, such as rotary frequencies, stay in float32.
    """
    originals = {
        parameter: parameter.data
        for parameter in model.parameters()
        if parameter.dtype == torch.float32 and not parameter.requires_grad
    }
    try:
        if dtype != torch.float32:
            for parameter, weight in originals.items():
                parameter.data = weight.to(dtype)
        yield
    finally:
        for parameter, weight in originals.items():
            parameter.data = weight
