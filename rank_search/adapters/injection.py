"""Puts adapters into frozen base models, and takes them out again."""

from __future__ import annotations

import math
import warnings
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers.pytorch_utils import Conv1D

from rank_search.adapters.lora import lora_config, module_scale
from rank_search.adapters.saving import ADAPTER, adapter_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from rank_search.config import AdapterConfig
    from rank_search.ranks import RankMap


def base_models(backbone: nn.Module) -> dict[str, nn.Module]:
    """The base models by the prefix of their module names: one without a prefix, or those of a ``ModuleDict``."""
    if isinstance(backbone, nn.ModuleDict):
        return {f"{name}.": model for name, model in backbone.items()}
    return {"": backbone}


@contextmanager
def adapted(
    backbone: nn.Module,
    rank_map: RankMap,
    config: AdapterConfig,
    *,
    seed: int,
    sources: Mapping[str, str] | None = None,
    head: Sequence[str] = (),
    directions: Mapping[str, Tensor] | None = None,
) -> Iterator[dict[str, PeftModel]]:
    """Puts fresh adapters into frozen base models, and takes them out again at the end.

    A starts by the study's init rule and B at zero, so the models' output is unchanged. A base model for
    which the map has only zeros gets no adapter, unless it has a head to train. Inside the context torch
    draws from ``seed``; the models stand in evaluation mode, as they came.

    Args:
        backbone: the base model, or a ``ModuleDict`` of several.
        rank_map: the ranks.
        config: scale, dropout and init of the adapters.
        seed: draws A, and dropout during training.
        sources: of each base model by its prefix, for whoever loads the saved adapters.
        head: modules that are trained whole, on a copy of their own.
        directions: for ``init.method: eva``, what `eva_directions` found.

    Yields:
        The adapted models, by the prefix of their module names.

    Raises:
        RuntimeError: PEFT gave some module another rank or scale than the map says.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng())
        torch.manual_seed(seed)
        models = {}
        for prefix, model in base_models(backbone).items():
            own = rank_map.under(prefix)
            if not own.adapted and not head:
                continue
            source = (sources or {}).get(prefix)
            start = None if directions is None else {name: directions[prefix + name] for name in own.adapted}
            models[prefix] = stack.enter_context(_adapted(model, own, config, source, head, start))
        yield models


@contextmanager
def _adapted(
    model: nn.Module,
    rank_map: RankMap,
    config: AdapterConfig,
    source: str | None,
    head: Sequence[str],
    directions: Mapping[str, Tensor] | None,
) -> Iterator[PeftModel]:
    peft_config = lora_config(rank_map, config, head=head, fan_in_fan_out=stored_transposed(model, rank_map))
    with _restored(model, head):
        with _known_warnings(), _whole_or_not_at_all(model):
            peft_model = get_peft_model(model, peft_config, adapter_name=ADAPTER)
        try:
            # PEFT writes the folder that the model happened to be loaded from; its source is what we know.
            peft_config.base_model_name_or_path = source
            _start(peft_model, config, directions)
            peft_model.eval()
            check_injection(peft_model, rank_map, config)
            yield peft_model
        finally:
            peft_model.unload()


@contextmanager
def loaded(backbone: nn.Module, folder: Path) -> Iterator[None]:
    """Puts saved adapters into their base models, and takes them out again at the end."""
    with ExitStack() as stack:
        for prefix, model in base_models(backbone).items():
            own = adapter_folder(folder, prefix)
            if own.is_dir():
                stack.enter_context(_loaded(model, own))
        yield


@contextmanager
def _loaded(model: nn.Module, folder: Path) -> Iterator[None]:
    head = LoraConfig.from_pretrained(str(folder)).modules_to_save or ()
    with _restored(model, head):
        with _known_warnings():
            peft_model = PeftModel.from_pretrained(model, folder, adapter_name=ADAPTER)
        try:
            yield
        finally:
            peft_model.unload()


@contextmanager
def _whole_or_not_at_all(model: nn.Module) -> Iterator[None]:
    """Takes out the layers that an injection has put in before it failed: the base model is everyone's."""
    try:
        yield
    except BaseException:
        for name, layer in lora_layers(model).items():
            model.set_submodule(name, layer.get_base_layer())
        raise


@contextmanager
def _restored(model: nn.Module, head: Sequence[str]) -> Iterator[None]:
    """Puts the head's own modules back at the end: PEFT's ``unload`` leaves its trained copies in their place."""
    own = {name: model.get_submodule(name) for name in head}
    try:
        yield
    finally:
        for name, module in own.items():
            model.set_submodule(name, module)
            module.requires_grad_(requires_grad=False)


@contextmanager
def _known_warnings() -> Iterator[None]:
    """Silences what PEFT 0.21 sets off in transformers 5.23 and the user can't mend."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def stored_transposed(model: nn.Module, rank_map: RankMap) -> bool:
    """Whether the adapted modules are GPT-2 ``Conv1D``, which PEFT must be told."""
    return any(isinstance(model.get_submodule(name), Conv1D) for name in rank_map.adapted)


@torch.no_grad()
def _start(model: nn.Module, config: AdapterConfig, directions: Mapping[str, Tensor] | None) -> None:
    """Sets A where the study's init rule is not the one that PEFT has applied already (kaiming)."""
    for name, layer in lora_layers(model).items():
        weight: Any = layer.lora_A[ADAPTER].weight
        if config.init.method == "gaussian":
            nn.init.normal_(weight, std=config.init.std)
        elif config.init.method == "eva":
            if directions is None:
                raise ValueError("init.method eva needs the directions that eva_directions finds")
            weight.copy_(directions[name][: len(weight)])


def lora_layers(model: nn.Module) -> dict[str, LoraLayer]:
    """Adapted layers by the name of the module that they adapt."""
    return {
        name.removeprefix("base_model.model."): module
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }


def check_injection(model: nn.Module, rank_map: RankMap, config: AdapterConfig) -> None:
    """Asserts that PEFT adapted exactly the map's modules, each with its rank and scale.

    Raises:
        RuntimeError: naming the first module that differs.
    """
    found = {name: (layer.r[ADAPTER], layer.scaling[ADAPTER]) for name, layer in lora_layers(model).items()}
    wanted = {name: (rank, module_scale(config, rank)) for name, rank in rank_map.adapted.items()}
    for name in wanted.keys() | found.keys():
        if not _same(found.get(name), wanted.get(name)):
            raise RuntimeError(f"PEFT gave {name!r} (rank, scale) {found.get(name)}, the map {wanted.get(name)}")


def _same(found: tuple[int, float] | None, wanted: tuple[int, float] | None) -> bool:
    if found is None or wanted is None:
        return found is wanted
    return found[0] == wanted[0] and math.isclose(found[1], wanted[1])
