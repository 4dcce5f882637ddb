"""From a rank map to PEFT: the one place that builds its configurations."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from peft import AdaLoraConfig, LoraConfig
from peft.utils.constants import DUMMY_TARGET_MODULES
from torch import nn
from transformers.pytorch_utils import Conv1D

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rank_search.config import AdapterConfig
    from rank_search.core.ranks import RankMap


def base_models(backbone: nn.Module) -> dict[str, nn.Module]:
    """The base models by the prefix of their module names: one without a prefix, or those of a ``ModuleDict``."""
    if isinstance(backbone, nn.ModuleDict):
        return {f"{name}.": model for name, model in backbone.items()}
    return {"": backbone}


def stored_transposed(model: nn.Module, rank_map: RankMap) -> bool:
    """Whether the adapted modules are GPT-2 ``Conv1D``, which PEFT must be told."""
    return any(isinstance(model.get_submodule(name), Conv1D) for name in rank_map.adapted)


def module_scale(config: AdapterConfig, rank: int) -> float:
    """The factor s in h = W x + s · B A x for a module of this rank, by the study's scale rule."""
    match config.scale:
        case "rslora":
            return config.alpha / math.sqrt(rank)
        case "alpha/r":
            return config.alpha / rank
        case "constant":
            return config.alpha


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

    PEFT reads pattern keys as regular expressions that may match anywhere after a dot, first match
    first, so each key is escaped and anchored. Modules with rank 0 are left out of the targets, since
    PEFT refuses r = 0. It also adapts whatever ends in a target's name, so such modules are excluded, by
    a regular expression, since names in a list would exclude what ends in them.

    Args:
        rank_map: the ranks; at least one above 0, unless there is a head.
        config: scale rule, α and dropout.
        base_model: written into the configuration for whoever loads the adapter.
        head: modules that are trained whole.
        fan_in_fan_out: the modules are GPT-2 ``Conv1D``, which store their weight transposed.
        others: modules of the base model that the map may not name, and that must be left alone.

    Raises:
        ValueError: the map adapts nothing, and there is no head.
    """
    ranks = rank_map.adapted
    if not ranks:
        if not head:
            raise ValueError("a map whose ranks are all 0 has no adapter: the base model is what it describes")
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

    It begins with half as many again, as PEFT's defaults do, prunes from a tenth of the steps on, and leaves the
    last third for training what is left. The scale is the study's at the first rank.

    Args:
        rank_map: the same rank everywhere.
        config: scale rule, α and dropout.
        steps: of the whole training, at least 4.
        head: modules that are trained whole.
        fan_in_fan_out: the modules are GPT-2 ``Conv1D``.
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
    """α as PEFT's own files hold it: an integer where it is one."""
    return int(alpha) if alpha == int(alpha) else alpha  # type: ignore[return-value]  # PEFT takes both


def _suffix_clashes(targets: Collection[str], names: Collection[str]) -> str | None:
    """A regular expression of the modules that PEFT would adapt too, as their name ends in that of a target."""
    clashes = sorted(
        name for name in names if name not in targets and any(name.endswith(f".{target}") for target in targets)
    )
    return "|".join(map(re.escape, clashes)) or None
