"""The same adapter in other forms: its scale folded into B, and its ranks made equal with zeros.

Consumers of an adapter disagree about the scale: by each module's own α and rank, by one α and one rank for all, by
one α and each tensor's rank. Only at scale 1 all of them are right.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from peft.utils.other import get_pattern_key

from rank_search.adapters.lora import lora_config
from rank_search.config import AdapterConfig
from rank_search.core.module_names import kind_of, layer_of
from rank_search.core.ranks import RankMap

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from torch import Tensor

    from rank_search.adapters.saving import Adapter
    from rank_search.core.ranks import Shape

# LoRAX and TGI pad ranks up to 8, or else to multiples of 16, and scale by what they padded to from the second kind of
# module on (``config.r = padded_rank`` in their adapters/lora.py): these ranks they leave alone.
_LEAST_SERVED = 8
_SERVED_STEP = 16
_STACKED = ({"q_proj", "k_proj", "v_proj"}, {"gate_proj", "up_proj"})  # into one matrix, by servers


def served_rank(rank: int) -> int:
    """The least rank, at or above this one, that every server takes as it is."""
    return _LEAST_SERVED if rank <= _LEAST_SERVED else math.ceil(rank / _SERVED_STEP) * _SERVED_STEP


def in_all_layers(names: Collection[str], modules: Collection[str]) -> list[str]:
    """What servers want adapted together: the same kinds of modules in all layers, and what they stack with these.

    Args:
        names: modules that are adapted.
        modules: linear layers of the base model, in its order.

    Returns:
        These modules, and those in layers that are of the same kind as one of them, or are stacked with such a kind.
    """
    kinds = {kind_of(name) for name in names if layer_of(name) != name}
    for stacked in _STACKED:
        parents = {kind.rpartition(".")[0] for kind in kinds if kind.rpartition(".")[2] in stacked}
        kinds |= {f"{parent}.{last}".lstrip(".") for parent in parents for last in stacked}
    return [name for name in modules if name in names or (layer_of(name) != name and kind_of(name) in kinds)]


def scales(adapter: Adapter) -> dict[str, float]:
    """The factor s in h = W x + s · B A x of each module, as PEFT has it: α/r, or α/√r, each by the patterns."""
    found, patterns = {}, adapter.config.alpha_pattern or {}
    for name, (a, _) in adapter.factors.items():
        alpha = patterns.get(get_pattern_key(list(patterns), name), adapter.config.lora_alpha)
        found[name] = alpha / (math.sqrt(len(a)) if adapter.config.use_rslora else len(a))
    return found


def compact(adapter: Adapter, others: Collection[str] = ()) -> Adapter:
    """The adapter at scale 1, by whichever α a consumer reads: r = α = the top rank, both patterns each module's rank.

    Args:
        adapter: one that adapts at least a module.
        others: modules of the base model that the adapter must leave alone.
    """
    folded = _folded(adapter)
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
    """The adapter at scale 1 and one rank: with zeros below its own, and zeros alone where a module has none.

    Args:
        adapter: one that adapts at least a module.
        shapes: of all modules that are to have the rank.
        others: modules of the base model that the adapter must leave alone.
    """
    folded = _folded(adapter)
    rank = served_rank(max(len(a) for a, _ in folded.values()))
    equal = {}
    for name, shape in shapes.items():
        a, b = torch.zeros(rank, shape.in_features), torch.zeros(shape.out_features, rank)
        if name in folded:
            own_a, own_b = folded[name]
            a[: len(own_a)], b[:, : len(own_a)] = own_a, own_b
        equal[name] = (a, b)
    config = lora_config(
        RankMap(dict.fromkeys(shapes, rank)),
        AdapterConfig(scale="constant", alpha=1.0),
        base_model=adapter.config.base_model_name_or_path,
        head=adapter.config.modules_to_save or (),
        fan_in_fan_out=adapter.config.fan_in_fan_out,
        others=others,
    )
    config.rank_pattern, config.alpha_pattern = {}, {}  # one rank for all, which r and α say
    return adapter.rewritten(config, equal)


def _folded(adapter: Adapter) -> dict[str, tuple[Tensor, Tensor]]:
    factor = scales(adapter)
    return {name: (a, b * factor[name]) for name, (a, b) in adapter.factors.items()}
