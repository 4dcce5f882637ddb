"""EVA (arXiv:2410.07170): initialises A with the leading directions of each module's inputs; they may set its rank."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from peft import EvaConfig, get_eva_state_dict

from rank_search.adapters.lora import base_models, lora_config, stored_transposed
from rank_search.adapters.members import AdapterInit
from rank_search.adapters.scale import module_scale
from rank_search.core.errors import InputError
from rank_search.core.ranks import RankMap
from rank_search.models.modules import linear_modules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from rank_search.config import AdapterConfig

_RHO = 2.0  # PEFT's default: no module gets more than twice the map's rank


def eva_directions(
    backbone: nn.Module,
    rank_map: RankMap,
    config: AdapterConfig,
    batches: Mapping[str, Sequence[Mapping[str, Tensor]]],
) -> dict[str, Tensor]:
    """Computes the leading principal directions of each module's inputs, by PEFT.

    One computation at the largest ranks is enough: the directions for a smaller rank are the first ones of a larger
    rank. EVA's own redistribution of ranks is off (ρ = 1), because the map sets the ranks here.

    Args:
        backbone: the base model, or a ``ModuleDict`` of several, without adapters.
        rank_map: the largest rank that each module may get.
        config: the adapters' settings.
        batches: inputs of each base model, by its prefix; each batch needs at least as many tokens as the largest
            rank.

    Returns:
        Module name → ``[rank, in]``.

    Raises:
        InputError: a batch has fewer tokens than that; PEFT would loop forever.
    """
    found: dict[str, Tensor] = {}
    for prefix, model in base_models(backbone).items():
        directions = _eva_directions(model, rank_map.under(prefix), config, batches[prefix], rho=1.0)
        found |= {prefix + name: vectors for name, vectors in directions.items()}
    return found


def eva_init(
    backbone: nn.Module,
    rank_map: RankMap,
    config: AdapterConfig,
    batches: Mapping[str, Sequence[Mapping[str, Tensor]]],
) -> tuple[RankMap, AdapterInit]:
    """Runs EVA in full: it redistributes the ranks of a map, and returns them with the initial adapter.

    As in PEFT, every module has the scale of the map's rank, whichever rank EVA gives the module.

    Args:
        backbone: the base model, or a ``ModuleDict`` of several, without adapters; ranks move only within a model.
        rank_map: the same rank everywhere.
        config: the adapters' settings.
        batches: inputs of each base model, by its prefix.

    Raises:
        InputError: a batch has fewer tokens than the rank that a module may get.
    """
    ranks = dict.fromkeys(rank_map.ranks, 0)
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    for prefix, model in base_models(backbone).items():
        shapes = linear_modules(model)
        directions = _eva_directions(model, rank_map.under(prefix), config, batches[prefix], rho=_RHO)
        for name, vectors in directions.items():
            ranks[prefix + name] = len(vectors)
            factors[prefix + name] = (vectors.T, torch.zeros(len(vectors), shapes[name].out_features))
    return RankMap(ranks), AdapterInit(factors, module_scale(config, max(rank_map.ranks.values())))


def _eva_directions(
    model: nn.Module,
    rank_map: RankMap,
    config: AdapterConfig,
    batches: Sequence[Mapping[str, Tensor]],
    rho: float,
) -> dict[str, Tensor]:
    tokens = min(int(batch["attention_mask"].sum()) for batch in batches)
    top = round(rho * max(rank_map.ranks.values()))
    if tokens < top:
        raise InputError(
            f"'eva' needs at least as many tokens in a batch as ranks, but one has {tokens} for rank {top}; raise "
            "training.batch_size, or lower space.ladder",
            field="adapter.init.method",
        )
    peft_config = lora_config(rank_map, config, fan_in_fan_out=stored_transposed(model, rank_map))
    peft_config.init_lora_weights = "eva"
    peft_config.eva_config = EvaConfig(rho=rho)
    return get_eva_state_dict(model, batches, peft_config, show_progress_bar=False)
