"""From a rank map to PEFT: the one place that builds a `LoraConfig`, and the one that injects it."""

from __future__ import annotations

import math
import re
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from peft import EvaConfig, LoraConfig, PeftModel, get_eva_state_dict, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
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
    rank_map: RankMap, config: AdapterConfig, *, base_model: str | None = None, fan_in_fan_out: bool = False
) -> LoraConfig:
    """The PEFT configuration of a rank map.

    PEFT reads pattern keys as regular expressions that may match anywhere after a dot, first match
    first, so each key is escaped and anchored. Modules with rank 0 are left out of the targets, since
    PEFT refuses r = 0.

    Args:
        rank_map: the ranks; at least one above 0.
        config: scale rule, α and dropout.
        base_model: written into the configuration for whoever loads the adapter.
        fan_in_fan_out: the modules are GPT-2 ``Conv1D``, which store their weight transposed.

    Raises:
        ValueError: the map adapts nothing.
    """
    ranks = rank_map.adapted
    if not ranks:
        raise ValueError("a map whose ranks are all 0 has no adapter: the base model is what it describes")
    anchored = {name: f"^{re.escape(name)}" for name in ranks}
    constant = config.scale == "constant"
    top = max(ranks.values())
    return LoraConfig(
        base_model_name_or_path=base_model,
        target_modules=list(ranks),
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


@contextmanager
def adapted(
    model: nn.Module,
    rank_map: RankMap,
    config: AdapterConfig,
    *,
    seed: int,
    base_model: str | None = None,
    directions: Mapping[str, Tensor] | None = None,
) -> Iterator[PeftModel | None]:
    """Puts fresh adapters into a frozen model, and takes them out again at the end.

    A starts by the study's init rule and B at zero, so the model's output is unchanged. With a map of
    zeros there is nothing to put in, and None is given. Inside the context torch draws from ``seed``; the
    model stands in evaluation mode, as it came.

    Args:
        model: the base model.
        rank_map: the ranks.
        config: scale, dropout and init of the adapters.
        seed: draws A, and dropout during training.
        base_model: the base model's source, for whoever loads the saved adapter.
        directions: for ``init.method: eva``, what `eva_directions` found.

    Raises:
        RuntimeError: PEFT gave some module another rank or scale than the map says.
    """
    if not rank_map.adapted:
        yield None
        return
    peft_config = lora_config(rank_map, config, fan_in_fan_out=_stored_transposed(model, rank_map))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        with _known_warnings():
            peft_model = get_peft_model(model, peft_config, adapter_name=_ADAPTER)
        try:
            # PEFT writes the folder that the model happened to be loaded from; its source is what we know.
            peft_config.base_model_name_or_path = base_model
            _start(peft_model, config, directions)
            peft_model.eval()
            check_injection(peft_model, rank_map, config)
            yield peft_model
        finally:
            peft_model.unload()


@contextmanager
def loaded(model: nn.Module, folder: Path) -> Iterator[PeftModel]:
    """Puts a saved adapter into a model, and takes it out again at the end."""
    with _known_warnings():
        peft_model = PeftModel.from_pretrained(model, folder, adapter_name=_ADAPTER)
    try:
        yield peft_model
    finally:
        peft_model.unload()


@contextmanager
def _known_warnings() -> Iterator[None]:
    """Silences what PEFT 0.21 sets off in transformers 5.23 and the user can't mend."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def _stored_transposed(model: nn.Module, rank_map: RankMap) -> bool:
    return isinstance(model.get_submodule(next(iter(rank_map.adapted))), Conv1D)


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
    model: nn.Module, rank_map: RankMap, config: AdapterConfig, batches: Sequence[Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """Leading principal directions of each module's inputs (EVA, arXiv:2410.07170), by PEFT.

    Computed once for the largest ranks: the vectors of a smaller rank are the first of a larger one's.
    EVA's own redistribution of ranks is off (ρ = 1), since here the map decides.

    Args:
        model: the base model, without adapters.
        rank_map: the largest rank that each module may get.
        config: the adapters' settings.
        batches: backbone inputs to look at; each needs at least as many tokens as the largest rank.

    Returns:
        Module name → ``[rank, in]``.

    Raises:
        InputError: a batch has fewer tokens than that, with which PEFT would never be done.
    """
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
        """A copy of the model's adapter."""
        state = get_peft_model_state_dict(peft_model, save_embedding_layers=False)
        tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
        return cls(cast("LoraConfig", peft_model.peft_config[_ADAPTER]), tensors)

    def save(self, folder: Path) -> None:
        """Writes a folder that ``PeftModel.from_pretrained`` loads, whole or not at all."""
        with whole_folder(folder, replace=True) as partial:
            save_file(dict(self.tensors), partial / "adapter_model.safetensors", metadata={"format": "pt"})
            self.config.save_pretrained(str(partial))
