"""How consumers read an adapter, as their source code has it: one function a consumer.

Each is a model of rules that stand in somebody else's code, and names the version and the lines that it stands for;
tests/consumers compares them with the real classes. They answer with what is added to each module, or refuse.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from rank_search.adapters import factors_of, whole_of
from rank_search.errors import InputError
from rank_search.export.gguf_file import read_gguf
from rank_search.modules import layer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from torch import Tensor


class Refused(Exception):
    """The consumer would not load the bundle; the message is its reason."""


@dataclass(frozen=True)
class Reading:
    """What a consumer makes of a bundle.

    Attributes:
        updates: by module: A ``[r, in]``, B ``[out, r]`` and the scale s of what it adds, s · B A x.
        replaced: parameters that it puts in the place of the base model's.
    """

    updates: dict[str, tuple[Tensor, Tensor, float]]
    replaced: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class AdapterFolder:
    """The two files that consumers of PEFT's format read, and the names of the base model's linear layers."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    modules: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path, modules: Iterable[str]) -> AdapterFolder:
        """Reads them.

        Raises:
            InputError: one is missing or damaged.
        """
        config, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
        try:
            settings = json.loads(config.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"is damaged or missing ({error}); export anew", file=str(config)) from None
        try:
            return cls(settings, load_file(weights), tuple(modules))
        except (OSError, SafetensorError) as error:
            raise InputError(f"is damaged or missing ({error}); export anew", file=str(weights)) from None

    @property
    def factors(self) -> dict[str, tuple[Tensor, Tensor]]:
        """A and B by module."""
        return factors_of(self.tensors)

    @property
    def whole(self) -> dict[str, Tensor]:
        """Parameters of the modules that were trained whole."""
        return whole_of(self.tensors)

    def scaled(self, scale: Callable[[str, Tensor], float]) -> Reading:
        """Every module's update at the scale that a rule gives it, by its name and its A."""
        return Reading({name: (a, b, scale(name, a)) for name, (a, b) in self.factors.items()})

    def scale_of(self, rank: int, alpha: float | None = None) -> float:
        """α/r, or α/√r where the configuration says so; α is the global one where none is given."""
        alpha = self.config["lora_alpha"] if alpha is None else alpha
        return alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)

    def pattern(self, name: str, key: str) -> Any:
        """What a pattern of the configuration gives a module, by PEFT's matching: the first key that matches."""
        patterns = self.config.get(name) or {}
        return next((value for of, value in patterns.items() if re.match(rf"(.*\.)?({of})$", key)), None)


def axolotl(folder: AdapterFolder) -> Reading:
    """Axolotl 0.19.0 merging an adapter: each tensor's rank, and α by PEFT's matching.

    Source: ``axolotl/cli/utils/lora_merge.py``, ``_resolve_lora_alpha_for_key`` and
    ``_build_peft_layer_and_get_delta``. Training on from an adapter, axolotl leaves all to PEFT.
    """
    return folder.scaled(lambda name, a: folder.scale_of(len(a), folder.pattern("alpha_pattern", name)))


def vllm_to_0_31(folder: AdapterFolder) -> Reading:
    """VLLM up to 0.31.0: both patterns are dropped, one global α/r or α/√r for all.

    Source: ``vllm/lora/peft_helper.py``, ``PEFTHelper.from_dict`` and ``__post_init__``; ``vllm/lora/lora_weights.py``,
    ``LoRALayerWeights.from_config``.
    """
    scale = folder.scale_of(folder.config["r"])
    return _with_head(folder, folder.scaled(lambda _name, _a: scale))


def vllm_from_0_32(folder: AdapterFolder) -> Reading:
    """VLLM from 0.32.0: rank and α by PEFT's matching, the rank as configured.

    Source: ``vllm/lora/peft_helper.py``, ``PEFTHelper.get_rank_and_scaling`` (read in 0.33.0).
    """

    def scale(name: str, _a: Tensor) -> float:
        rank = folder.pattern("rank_pattern", name)
        return folder.scale_of(folder.config["r"] if rank is None else rank, folder.pattern("alpha_pattern", name))

    return _with_head(folder, folder.scaled(scale))


def _with_head(folder: AdapterFolder, reading: Reading) -> Reading:
    """VLLM takes a whole ``classifier`` or ``score``, of one linear layer, and refuses others.

    Source: ``PEFTHelper._validate_features`` and ``vllm/lora/utils.py``, ``parse_fine_tuned_lora_name``.
    """
    heads = folder.config.get("modules_to_save") or []
    if set(heads) - {"classifier", "score"} or any(len(name.split(".")) != 2 for name in folder.whole):
        raise Refused(f"it takes no modules_to_save but a linear classifier or score, and finds {heads}")
    return Reading(reading.updates, folder.whole)


def sglang(folder: AdapterFolder) -> Reading:
    """SGLang 0.5.23: one global α/r for all, rsLoRA ignored, and every tensor must have the configured rank.

    Q, K and V are stacked, as are gate and up: Q needs V beside it, and V or K without Q are no module that it knows.

    Source: ``sglang/srt/lora/lora.py``, ``LoRAAdapter.scaling``, ``normalize_qkv_proj`` and
    ``normalize_gate_up_proj``; ``lora/mem_pool.py``, ``load_lora_weight_tensor``.
    """
    if folder.whole:
        raise Refused("it takes no modules_to_save")
    rank = folder.config["r"]
    for name, (a, _) in folder.factors.items():
        if len(a) != rank:
            raise Refused(f"it loads tensors of rank r = {rank} alone, and {name} has {len(a)}")
    named = set(folder.factors)
    for name in named:
        stem, _, last = name.rpartition(".")
        beside = {other.rpartition(".")[2] for other in named if other.rpartition(".")[0] == stem}
        if last in {"q_proj", "k_proj", "v_proj"} and not {"q_proj", "v_proj"} <= beside:
            raise Refused(f"it stacks Q, K and V, and {stem} adapts {', '.join(sorted(beside))} alone")
    scale = folder.config["lora_alpha"] / rank
    return folder.scaled(lambda _name, _a: scale)


def lorax(folder: AdapterFolder) -> Reading:
    """LoRAX, and TGI, which took its code: layers are stacked by kind of module, with one global scale.

    A kind that one layer lacks is left out altogether. Ranks are padded to 8, or to multiples of 16, and the padded
    number takes the place of r for the kinds that follow.

    Source: ``lorax_server/adapters/lora.py``, ``LoraWeights.load``; ``lorax_server/utils/sgmv.py``, ``pad_rank``;
    ``text_generation_server/adapters/lora.py``, ``LoraWeights.prepare_weights``.
    """
    if folder.whole:
        raise Refused("it takes no modules_to_save")
    kinds: dict[str, list[str]] = {}
    for name in folder.modules:
        if layer_of(name) != name:
            kinds.setdefault(name.removeprefix(f"{layer_of(name)}."), []).append(name)
    rank: int = folder.config["r"]
    updates: dict[str, tuple[Tensor, Tensor, float]] = {}
    for kind, names in kinds.items():
        if any(name not in folder.factors for name in names):
            continue
        found = {len(folder.factors[name][0]) for name in names}
        if len(found) > 1:
            raise Refused(f"it stacks the layers' {kind}, which have ranks {sorted(found)}")
        scale = folder.scale_of(rank)
        updates |= {name: (*folder.factors[name], scale) for name in names}
        own = found.pop()
        rank = 8 if own <= 8 else math.ceil(own / 16) * 16
    return Reading(updates)


def llama_cpp(file: Path, architecture: str, settings: Mapping[str, Any], modules: Iterable[str]) -> Reading:
    """llama.cpp: each tensor's own rank, and one α, which at 0 stands for scale 1.

    Source: ``src/llama-adapter.h``, ``llama_adapter_lora_weight::get_scale`` (in llama-cpp-python 0.3.36).

    Args:
        file: the GGUF adapter.
        architecture: the base model's type, as transformers names it.
        settings: its configuration, which tells how its rows are ordered.
        modules: names of its linear layers.
    """
    alpha, factors = read_gguf(file, architecture, settings, modules)
    return Reading({name: (a, b, alpha / len(a) if alpha else 1.0) for name, (a, b) in factors.items()})
