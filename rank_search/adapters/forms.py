"""Rewrites an adapter without changing what it computes: folds its scale into B, and pads its ranks with zeros.

Consumers of an adapter compute the scale in different ways: from each module's α and rank, from one α and one rank
for all modules, or from one α and each tensor's rank. They all agree only at scale 1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from peft.utils.other import get_pattern_key

from rank_search.adapters.lora import lora_config
from rank_search.adapters.scale import lora_scale
from rank_search.config import AdapterConfig
from rank_search.core.module_names import kind_of, layer_of
from rank_search.core.ranks import RankMap

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from torch import Tensor

    from rank_search.adapters.saving import Adapter
    from rank_search.core.ranks import Shape

# LoRAX and TGI pad ranks up to 8, or else to multiples of 16. From the second kind of module on, they scale by the
# padded rank (``config.r = padded_rank`` in their adapters/lora.py). They leave the ranks below as they are.
_LEAST_SERVED = 8
_SERVED_STEP = 16
_STACKED = ({"q_proj", "k_proj", "v_proj"}, {"gate_proj", "up_proj"})  # servers stack each set into one matrix


def served_rank(rank: int) -> int:
    """The smallest rank, at or above this one, that every server takes without padding."""
    return _LEAST_SERVED if rank <= _LEAST_SERVED else math.ceil(rank / _SERVED_STEP) * _SERVED_STEP


def in_all_layers(names: Collection[str], modules: Collection[str]) -> list[str]:
    """Lists the modules that servers expect to be adapted together.

    Servers expect the same kinds of modules in all layers. If they stack several kinds into one matrix, they expect
    all of these kinds.

    Args:
        names: the adapted modules.
        modules: linear layers of the base model, in the model's order.

    Returns:
        The adapted modules, and those in layers whose kind is adapted or is stacked with an adapted kind; in the
        order of ``modules``.
    """
    kinds = {kind_of(name) for name in names if layer_of(name) != name}
    for stacked in _STACKED:
        parents = {kind.rpartition(".")[0] for kind in kinds if kind.rpartition(".")[2] in stacked}
        kinds |= {f"{parent}.{last}".lstrip(".") for parent in parents for last in stacked}
    return [name for name in modules if name in names or (layer_of(name) != name and kind_of(name) in kinds)]


def scales(adapter: Adapter) -> dict[str, float]:
    """The factor s in h = W x + s · B A x of each module, as PEFT computes it: α/r or α/√r, α from the patterns."""
    found, patterns = {}, adapter.config.alpha_pattern or {}
    for name, (a, _) in adapter.factors.items():
        alpha = patterns.get(get_pattern_key(list(patterns), name), adapter.config.lora_alpha)
        found[name] = lora_scale(alpha, len(a), rank_stabilised=adapter.config.use_rslora)
    return found


def compact(adapter: Adapter, others: Collection[str] = ()) -> Adapter:
    """Rewrites an adapter to scale 1, whichever α a consumer reads.

    r and α are the largest rank, and both patterns hold each module's rank.

    Args:
        adapter: an adapter of at least one module.
        others: modules of the base model that the adapter must leave alone.
    """
    folded = _fold_scale(adapter)
    config = lora_config(
        RankMap({name: len(a) for name, (a, _) in folded.items()}),
        AdapterConfig(scale="constant", alpha=1.0),
        base_model=adapter.config.base_model_name_or_path,
        head=adapter.config.modules_to_save or (),
        fan_in_fan_out=adapter.config.fan_in_fan_out,
        others=others,
    )
    return adapter.rewritten(config, folded)


def padded(adapter: Adapter, shapes: Mapping[str, Shape], others: Collection[str] = ()) -> Adapter:
    """Rewrites an adapter to scale 1 and one rank for all modules.

    A and B are padded with zeros. A module that is not adapted gets an adapter of zeros.

    Args:
        adapter: an adapter of at least one module.
        shapes: shape of each module that is to get the rank.
        others: modules of the base model that the adapter must leave alone.
    """
    folded = _fold_scale(adapter)
    rank = served_rank(max(len(a) for a, _ in folded.values()))
    equal = {}
    for name, shape in shapes.items():
        a, b = torch.zeros(rank, shape.in_features), torch.zeros(shape.out_features, rank)
        if name in folded:
            folded_a, folded_b = folded[name]
            a[: len(folded_a)], b[:, : len(folded_a)] = folded_a, folded_b
        equal[name] = (a, b)
    config = lora_config(
        RankMap(dict.fromkeys(shapes, rank)),
        AdapterConfig(scale="constant", alpha=1.0),
        base_model=adapter.config.base_model_name_or_path,
        head=adapter.config.modules_to_save or (),
        fan_in_fan_out=adapter.config.fan_in_fan_out,
        others=others,
    )
    config.rank_pattern, config.alpha_pattern = {}, {}  # r and α hold the one rank
    return adapter.rewritten(config, equal)


def _fold_scale(adapter: Adapter) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B of each module, with the scale multiplied into B."""
    scale = scales(adapter)
    return {name: (a, b * scale[name]) for name, (a, b) in adapter.factors.items()}
