"""Small adapters in memory, for rules that read PEFT's files."""

from __future__ import annotations

import torch

from rank_search.export.adapter_files import AdapterFiles, AdapterSettings


def adapter_files(ranks: dict[str, int], modules=None, whole=(), **settings) -> AdapterFiles:
    """An adapter of 4 × 4 modules of these ranks, with parameters that were trained whole."""
    tensors = {}
    for name, rank in ranks.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.ones(rank, 4)
        tensors[f"base_model.model.{name}.lora_B.weight"] = torch.ones(4, rank)
    tensors |= {f"base_model.model.{name}": torch.ones(4) for name in whole}
    settings = {"r": max(ranks.values()), "lora_alpha": 16, "target_modules": list(ranks), **settings}
    return AdapterFiles(AdapterSettings(**settings), tensors, tuple(modules or ranks))


def scales(applied) -> dict[str, float]:
    """Scale by module."""
    return {name: scale for name, (_, _, scale) in applied.updates.items()}
