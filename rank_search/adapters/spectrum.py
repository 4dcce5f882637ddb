"""SVD of a trained adapter; truncating it gives adapters of smaller ranks without training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file

from rank_search.adapters.lora import base_models
from rank_search.adapters.members import AdapterInit
from rank_search.adapters.saving import adapter_folder
from rank_search.adapters.scale import module_scale

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from rank_search.config import AdapterConfig


@dataclass(frozen=True)
class Spectrum:
    """ΔW = s·B·A of each module as U·diag(σ)·Vᵀ.

    Its first r components are the best change of rank r in the Frobenius norm (Eckart & Young, 1936). The scale s
    is part of σ, so a truncation has scale 1 at every rank.

    Attributes:
        values: module → σ ``[rank]``, descending.
        init: A = √σ·Vᵀ and B = U·√σ at scale 1, with the trained head if there is one.
    """

    values: Mapping[str, Sequence[float]]
    init: AdapterInit

    @classmethod
    def from_folder(cls, folder: Path, backbone: nn.Module, config: AdapterConfig, head: Sequence[str]) -> Spectrum:
        """Computes the spectrum of an adapter that a study has saved.

        Args:
            folder: the folder that `rank_search.adapters.Adapters` wrote.
            backbone: the base model, or a ``ModuleDict`` of several.
            config: holds the scale rule that the adapter was trained under.
            head: modules that were trained whole.
        """
        values: dict[str, list[float]] = {}
        factors: dict[str, tuple[Tensor, Tensor]] = {}
        heads: dict[str, dict[str, Tensor]] = {}
        for prefix in base_models(backbone):
            saved = load_file(adapter_folder(folder, prefix) / "adapter_model.safetensors")
            weights = {name.removeprefix("base_model.model."): weight for name, weight in saved.items()}
            for name in [key.removesuffix(".lora_A.weight") for key in weights if key.endswith(".lora_A.weight")]:
                a, b = weights[f"{name}.lora_A.weight"], weights[f"{name}.lora_B.weight"]
                u, sigma, v = _svd(a, b * module_scale(config, len(a)))
                root = sigma.sqrt()
                values[prefix + name] = sigma.tolist()
                factors[prefix + name] = (v * root, root[:, None] * u.T)
            for name in head:
                module = {key: weight for key, weight in weights.items() if key.startswith(f"{name}.")}
                heads[prefix + name] = {key.removeprefix(f"{name}."): weight for key, weight in module.items()}
        return cls(values, AdapterInit(factors, 1.0, heads))


def _svd(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """SVD of B·A, computed on the small matrix between the QR factors; a dense ΔW is never formed.

    Args:
        a: ``[rank, in]``.
        b: ``[out, rank]``.

    Returns:
        U ``[out, rank]``, σ ``[rank]``, V ``[in, rank]``.
    """
    q_in, r_in = torch.linalg.qr(a.double().T)
    q_out, r_out = torch.linalg.qr(b.double())
    u, sigma, vt = torch.linalg.svd(r_out @ r_in.T)
    return (q_out @ u).float(), sigma.float(), (q_in @ vt.T).float()
