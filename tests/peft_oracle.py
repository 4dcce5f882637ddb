"""Adapters as plain PEFT trains them: what ours are compared with."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from peft import PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import get_linear_schedule_with_warmup

from rank_search.adapters import lora_config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from rank_search.config import AdapterConfig, TrainingConfig
    from rank_search.core.ranks import RankMap

Tensors = dict[str, tuple[torch.Tensor, torch.Tensor]]


@contextmanager
def adapted(model: nn.Module, rank_map: RankMap, config: AdapterConfig, **options) -> Iterator[PeftModel]:
    """A model with a map's adapter in it, injected by PEFT."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        peft_model = get_peft_model(model, lora_config(rank_map, config, **options))
    try:
        yield peft_model.eval()
    finally:
        peft_model.unload()


def lora_layers(model: nn.Module) -> dict[str, LoraLayer]:
    """Adapted layers by the name of the module that they adapt."""
    return {
        name.removeprefix("base_model.model."): module
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }


def tensors(model: nn.Module) -> Tensors:
    """Module → (A ``[rank, in]``, B ``[out, rank]``)."""
    return {
        name: (layer.lora_A["default"].weight.detach().clone(), layer.lora_B["default"].weight.detach().clone())
        for name, layer in lora_layers(model).items()
    }


def trained(
    model: nn.Module,
    rank_map: RankMap,
    config: AdapterConfig,
    training: TrainingConfig,
    start: Tensors,
    batches,
    loss,
    **options,
) -> Tensors:
    """Trains one adapter alone, in a plain loop, from given tensors."""
    with adapted(model, rank_map, config, **options) as peft_model:
        for name, layer in lora_layers(model).items():
            a, b = start[name]
            layer.lora_A["default"].weight.data.copy_(a)
            layer.lora_B["default"].weight.data.copy_(b)
        parameters = [parameter for parameter in peft_model.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=training.weight_decay)
        schedule = get_linear_schedule_with_warmup(optimiser, round(training.warmup * training.steps), training.steps)
        for batch in batches:
            optimiser.zero_grad()
            loss(peft_model, batch).backward()
            torch.nn.utils.clip_grad_norm_(parameters, training.max_grad_norm)
            optimiser.step()
            schedule.step()
        return tensors(model)
