"""In which type the frozen base computes while adapters are trained."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


def training_dtype(setting: str, device: torch.device) -> torch.dtype:
    """The type that ``training.precision`` names; ``auto`` is bf16 where the device multiplies it in hardware."""
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
def frozen_in(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Holds the frozen float32 weights of a model in another type, and gives them back unchanged at the end.

    Weights are converted once, where autocast would do so in each step, and what flows between the layers is
    half as long. Weights that are trained stay in float32, and so do buffers, such as rotary frequencies.
    """
    own = {
        parameter: parameter.data
        for parameter in model.parameters()
        if parameter.dtype == torch.float32 and not parameter.requires_grad
    }
    try:
        if dtype != torch.float32:
            for parameter, weight in own.items():
                parameter.data = weight.to(dtype)
        yield
    finally:
        for parameter, weight in own.items():
            parameter.data = weight
