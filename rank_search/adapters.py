"""From a rank map to PEFT: the one place that builds a `LoraConfig`, and the one that injects it."""

from __future__ import annotations

import math
import re
import warnings
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from peft import EvaConfig, LoraConfig, PeftModel, get_eva_state_dict, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.utils.constants import DUMMY_TARGET_MODULES
from safetensors.torch import save_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from rank_search.errors import InputError
from rank_search.files import whole_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from rank_search.config import AdapterConfig
    from rank_search.ranks import RankMap

_ADAPTER = "default"


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
) -> LoraConfig:
    """The PEFT configuration of a rank map.

    PEFT reads pattern keys as regular expressions that may match anywhere after a dot, first match
    first, so each key is escaped and anchored. Modules with rank 0 are left out of the targets, since
    PEFT refuses r = 0.

    Args:
        rank_map: the ranks; at least one above 0, unless there is a head.
        config: scale rule, α and dropout.
        base_model: written into the configuration for whoever loads the adapter.
        head: modules that are trained whole.
        fan_in_fan_out: the modules are GPT-2 ``Conv1D``, which store their weight transposed.

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
        exclude_modules=_suffix_clashes(rank_map) or None,
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


def _number(alpha: float) -> int:
    """α as PEFT's own files hold it: an integer where it is one."""
    return int(alpha) if alpha == int(alpha) else alpha  # type: ignore[return-value]  # PEFT takes both


def _suffix_clashes(rank_map: RankMap) -> list[str]:
    """Rank-0 modules that PEFT would adapt all the same, as their name ends in that of a target."""
    targets = rank_map.adapted
    return [
        name
        for name, rank in rank_map.ranks.items()
        if rank == 0 and any(name.endswith(f".{target}") for target in targets)
    ]


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
    peft_config = lora_config(rank_map, config, head=head, fan_in_fan_out=_stored_transposed(model, rank_map))
    with _restored(model, head):
        with _known_warnings():
            peft_model = get_peft_model(model, peft_config, adapter_name=_ADAPTER)
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
            peft_model = PeftModel.from_pretrained(model, folder, adapter_name=_ADAPTER)
        try:
            yield
        finally:
            peft_model.unload()


def adapter_folder(folder: Path, prefix: str) -> Path:
    """Where in a trial's folder the adapter of one base model lies: beside the others, or alone."""
    return folder / prefix.removesuffix(".")


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


def _stored_transposed(model: nn.Module, rank_map: RankMap) -> bool:
    return any(isinstance(model.get_submodule(name), Conv1D) for name in rank_map.adapted)


@torch.no_grad()
def _start(model: nn.Module, config: AdapterConfig, directions: Mapping[str, Tensor] | None) -> None:
    """Sets A where the study's init rule is not the one that PEFT has applied already (kaiming)."""
    for name, layer in lora_layers(model).items():
        weight: Any = layer.lora_A[_ADAPTER].weight
        if config.init.method == "gaussian":
            nn.init.normal_(weight, std=config.init.std)
        elif config.init.method == "eva":
            if directions is None:
                raise ValueError("init.method eva needs the directions that eva_directions finds")
            weight.copy_(directions[name][: len(weight)])


def eva_directions(
    backbone: nn.Module,
    rank_map: RankMap,
    config: AdapterConfig,
    batches: Mapping[str, Sequence[Mapping[str, Tensor]]],
) -> dict[str, Tensor]:
    """Leading principal directions of each module's inputs (EVA, arXiv:2410.07170), by PEFT.

    Computed once for the largest ranks: the vectors of a smaller rank are the first of a larger one's.
    EVA's own redistribution of ranks is off (ρ = 1), since here the map decides.

    Args:
        backbone: the base model, or a ``ModuleDict`` of several, without adapters.
        rank_map: the largest rank that each module may get.
        config: the adapters' settings.
        batches: of each base model by its prefix, inputs to look at; each needs at least as many tokens as
            the largest rank.

    Returns:
        Module name → ``[rank, in]``.

    Raises:
        InputError: a batch has fewer tokens than that, with which PEFT would never be done.
    """
    found: dict[str, Tensor] = {}
    for prefix, model in base_models(backbone).items():
        own = _eva_directions(model, rank_map.under(prefix), config, batches[prefix])
        found |= {prefix + name: vectors for name, vectors in own.items()}
    return found


def _eva_directions(
    model: nn.Module, rank_map: RankMap, config: AdapterConfig, batches: Sequence[Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    tokens = min(int(batch["attention_mask"].sum()) for batch in batches)
    top = max(rank_map.ranks.values())
    if tokens < top:
        raise InputError(
            f"'eva' needs at least as many tokens in a batch as ranks, but one has {tokens} for rank {top}; raise "
            "training.batch_size, or lower space.ladder",
            field="adapter.init.method",
        )
    peft_config = lora_config(rank_map, config, fan_in_fan_out=_stored_transposed(model, rank_map))
    peft_config.init_lora_weights = "eva"
    peft_config.eva_config = EvaConfig(rho=1.0)
    return get_eva_state_dict(model, batches, peft_config, show_progress_bar=False)


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
    found = {name: (layer.r[_ADAPTER], layer.scaling[_ADAPTER]) for name, layer in lora_layers(model).items()}
    wanted = {name: (rank, module_scale(config, rank)) for name, rank in rank_map.adapted.items()}
    for name in wanted.keys() | found.keys():
        if not _same(found.get(name), wanted.get(name)):
            raise RuntimeError(f"PEFT gave {name!r} (rank, scale) {found.get(name)}, the map {wanted.get(name)}")


def _same(found: tuple[int, float] | None, wanted: tuple[int, float] | None) -> bool:
    if found is None or wanted is None:
        return found is wanted
    return found[0] == wanted[0] and math.isclose(found[1], wanted[1])


@dataclass(frozen=True)
class Adapter:
    """A trained adapter, apart from its model: what PEFT saves, held in memory."""

    config: LoraConfig
    tensors: Mapping[str, Tensor]

    @classmethod
    def of(cls, peft_model: PeftModel) -> Adapter:
        """A copy of the model's adapter, its head included."""
        state = get_peft_model_state_dict(peft_model, save_embedding_layers=False)
        tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
        return cls(cast("LoraConfig", peft_model.peft_config[_ADAPTER]), tensors)


@dataclass(frozen=True)
class Adapters:
    """The trained adapters of a map, by the prefix of their base model."""

    of: Mapping[str, Adapter]

    def save(self, folder: Path) -> None:
        """Writes folders that ``PeftModel.from_pretrained`` loads, whole or not at all."""
        with whole_folder(folder, replace=True) as partial:
            for prefix, adapter in self.of.items():
                own = adapter_folder(partial, prefix)
                own.mkdir(exist_ok=True)
                save_file(dict(adapter.tensors), own / "adapter_model.safetensors", metadata={"format": "pt"})
                adapter.config.save_pretrained(str(own))
