"""Builds PEFT's configurations from rank maps; no other module builds them."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from peft import AdaLoraConfig, LoraConfig
from peft.utils.constants import DUMMY_TARGET_MODULES
from torch import nn
from transformers.pytorch_utils import Conv1D

from rank_search.adapters.scale import module_scale

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rank_search.config import AdapterConfig
    from rank_search.core.ranks import RankMap


def base_models(backbone: nn.Module) -> dict[str, nn.Module]:
    """Prefix of module names → base model: one model with an empty prefix, or those of a ``ModuleDict``."""
    if isinstance(backbone, nn.ModuleDict):
        return {f"{name}.": model for name, model in backbone.items()}
    return {"": backbone}


def stored_transposed(model: nn.Module, rank_map: RankMap) -> bool:
    """Whether adapted modules are GPT-2 ``Conv1D``; PEFT must know it (``fan_in_fan_out``)."""
    return any(isinstance(model.get_submodule(name), Conv1D) for name in rank_map.adapted)


def lora_config(
    rank_map: RankMap,
    config: AdapterConfig,
    *,
    base_model: str | None = None,
    head: Sequence[str] = (),
    fan_in_fan_out: bool = False,
    others: Collection[str] = (),
) -> LoraConfig:
    """The PEFT configuration of a rank map.

    PEFT reads pattern keys as regular expressions that may match after any dot, and takes the first match. So each
    key is escaped and anchored. PEFT refuses r = 0, so modules with rank 0 are not among the targets. PEFT also
    adapts every module whose name ends in a target's name, so such modules are excluded. They are excluded by a
    regular expression, because a list of names would exclude every module whose name ends in one of them.

    Args:
        rank_map: the ranks; at least one above 0, unless there is a head.
        config: scale rule, α and dropout.
        base_model: source of the base model; written into the configuration for whoever loads the adapter.
        head: modules that are trained whole.
        fan_in_fan_out: whether the modules are GPT-2 ``Conv1D``, which store their weight transposed.
        others: further modules of the base model, which must not be adapted; the map need not name them.

    Raises:
        ValueError: the map adapts nothing, and there is no head.
    """
    ranks = rank_map.adapted
    if not ranks:
        if not head:
            raise ValueError("a map whose ranks are all 0 has no adapter: it describes the base model")
        # PEFT's own name for an adapter without LoRA layers.
        return LoraConfig(
            base_model_name_or_path=base_model, target_modules=DUMMY_TARGET_MODULES, modules_to_save=list(head)
        )
    anchored = {name: f"^{re.escape(name)}" for name in ranks}
    constant = config.scale == "constant"
    top = max(ranks.values())
    return LoraConfig(
        base_model_name_or_path=base_model,
        target_modules=list(ranks),
        modules_to_save=list(head) or None,
        exclude_modules=_suffix_clashes(ranks, {*rank_map.ranks, *others}),
        r=top,
        lora_alpha=_number(config.alpha * top if constant else config.alpha),
        rank_pattern={anchored[name]: rank for name, rank in ranks.items()},
        alpha_pattern={anchored[name]: _number(config.alpha * rank) for name, rank in ranks.items()}
        if constant
        else {},
        use_rslora=config.scale == "rslora",
        lora_dropout=config.dropout,
        fan_in_fan_out=fan_in_fan_out,
        bias="none",
    )


def adalora_config(
    rank_map: RankMap, config: AdapterConfig, steps: int, *, head: Sequence[str] = (), fan_in_fan_out: bool = False
) -> AdaLoraConfig:
    """The PEFT configuration of AdaLoRA (arXiv:2303.10512) that ends with as many ranks as a map has.

    It starts with 1.5 times the ranks, as PEFT's defaults do, prunes from a tenth of the steps on, and trains the
    remaining ranks in the last third. The scale is the study's scale at the first rank.

    Args:
        rank_map: the same rank everywhere.
        config: scale rule, α and dropout.
        steps: number of steps of the whole training, at least 4.
        head: modules that are trained whole.
        fan_in_fan_out: whether the modules are GPT-2 ``Conv1D``.
    """
    target = max(rank_map.ranks.values())
    first = math.ceil(1.5 * target)
    return AdaLoraConfig(
        target_modules=list(rank_map.adapted),
        modules_to_save=list(head) or None,
        init_r=first,
        target_r=target,
        tinit=steps // 10,
        tfinal=steps // 3,
        deltaT=max(1, steps // 50),
        total_step=steps,
        lora_alpha=module_scale(config, first) * first,  # type: ignore[arg-type]  # PEFT takes any number
        lora_dropout=config.dropout,
        fan_in_fan_out=fan_in_fan_out,
    )


def _number(alpha: float) -> int:
    """α as in PEFT's own files: an integer if it is a whole number."""
    return int(alpha) if alpha == int(alpha) else alpha  # type: ignore[return-value]  # PEFT takes both


def _suffix_clashes(targets: Collection[str], names: Collection[str]) -> str | None:
    """A regular expression of the non-target modules whose name ends in a target's name; PEFT would adapt them too."""
    clashes = sorted(
        name for name in names if name not in targets and any(name.endswith(f".{target}") for target in targets)
    )
    return "|".join(map(re.escape, clashes)) or None
