"""Which modules PEFT adapts, tried on a base model without weights before anything is trained."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any, cast

from peft import get_peft_model

from rank_search.adapters.lora import base_models, lora_config, stored_transposed
from rank_search.adapters.saving import ADAPTER
from rank_search.config import AdapterConfig
from rank_search.core.errors import RankSearchError
from rank_search.core.ranks import RankMap
from rank_search.models.modules import linear_modules

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from torch import nn
    from transformers import PreTrainedModel

    from rank_search.core.space import Space


def unsupported_modules(skeleton: nn.Module) -> dict[str, str]:
    """The linear layers that PEFT refuses to adapt, such as Mamba's ``out_proj`` → the reason, in words.

    Args:
        skeleton: the base model, or a ``ModuleDict`` of several, on the meta device.
    """
    found: dict[str, str] = {}
    for prefix, model in base_models(skeleton).items():
        names = list(linear_modules(model))
        if not names or _refusal(model, names) is None:
            continue
        by_ending: dict[str, list[str]] = {}
        for name in names:
            by_ending.setdefault(name.rpartition(".")[2], []).append(name)
        for same in by_ending.values():  # PEFT refuses by the last part of a name
            if reason := _refusal(model, same):
                found |= {prefix + name: f"is refused by PEFT ({reason})" for name in same}
    return found


def check_exportable(skeleton: nn.Module, space: Space, head: Collection[str] = ()) -> None:
    """Checks that PEFT builds the largest adapter of a space, so that what is trained can be exported.

    Args:
        skeleton: the base model, or a ``ModuleDict`` of several, on the meta device.
        space: the search space.
        head: modules that are trained whole.

    Raises:
        RankSearchError: PEFT refuses it, or builds other ranks.
    """
    for prefix, model in base_models(skeleton).items():
        rank_map = space.uniform(space.ladder[-1]).under(prefix)
        if rank_map.adapted and (reason := _refusal(model, rank_map.adapted, space.ladder[-1], head)):
            raise RankSearchError(f"PEFT can't build adapters of this study's space, so none is trained: {reason}")


def _refusal(model: nn.Module, names: Iterable[str], rank: int = 1, head: Collection[str] = ()) -> str | None:
    """Why PEFT does not adapt modules of a copy of a model; None if it does."""
    rank_map = RankMap(dict.fromkeys(names, rank))
    config = lora_config(
        rank_map,
        AdapterConfig(),
        head=tuple(head),
        fan_in_fan_out=stored_transposed(model, rank_map),
        others=linear_modules(model),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            adapted: Any = get_peft_model(cast("PreTrainedModel", copy.deepcopy(model)), config).base_model.model
        except Exception as error:  # PEFT refuses with several classes
            return " ".join(str(error).split()).partition(". ")[0].rstrip(".")
    built = {name: layer.r[ADAPTER] for name, layer in adapted.named_modules() if hasattr(layer, "lora_A")}
    if built != rank_map.ranks:
        wrong = min(name for name in {*built, *rank_map.ranks} if built.get(name) != rank_map.ranks.get(name))
        return f"{wrong!r} gets rank {built.get(wrong, 0)}, not {rank_map.ranks.get(wrong, 0)}"
    return None
