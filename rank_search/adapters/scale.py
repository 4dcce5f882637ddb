"""The factor s in h = W x + s · B A x, which every rule for it computes here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rank_search.config import AdapterConfig


def lora_scale(alpha: float, rank: int, *, rank_stabilised: bool = False) -> float:
    """α/r, or rank-stabilised α/√r (arXiv:2312.03732).

    Args:
        alpha: α, above 0.
        rank: r, at least 1.
        rank_stabilised: PEFT's ``use_rslora``.
    """
    return alpha / (math.sqrt(rank) if rank_stabilised else rank)


def module_scale(config: AdapterConfig, rank: int) -> float:
    """The scale of a module of this rank, by the study's scale rule."""
    if config.scale == "constant":
        return config.alpha
    return lora_scale(config.alpha, rank, rank_stabilised=config.scale == "rslora")
