"""How consumers read an adapter, as their source code has it: one function a consumer.

Each is a model of rules that stand in somebody else's code, and names the version and the lines that it stands for;
tests/consumers compares those of vLLM, SGLang and axolotl with the real classes. They answer with what is added to each
module, or refuse.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
)
from safetensors import SafetensorError
from safetensors.torch import load_file

from rank_search.adapters import factors_of, whole_of
from rank_search.core.errors import InputError
from rank_search.core.module_names import kind_of, layer_of
from rank_search.export.gguf_file import read_gguf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from torch import Tensor

_Value = TypeVar("_Value", int, float)

# vLLM takes these values of --max-lora-rank alone.
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_SGLANG_MODULES = frozenset(
    {"q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj", "gate_proj", "up_proj", "gate_up_proj", "down_proj"}
    | {"embed_tokens", "lm_head"}
)


class Refused(Exception):
    """The consumer would not load the bundle; the message is its reason."""


class NotServed(Exception):
    """The consumer takes no adapters for such a base model, whatever is in them; the message is its reason."""


@dataclass(frozen=True)
class Reading:
    """What a consumer makes of a bundle.

    Attributes:
        updates: by module: A ``[r, in]``, B ``[out, r]`` and the scale s of what it adds, s · B A x.
        replaced: parameters that it puts in the place of the base model's.
    """

    updates: dict[str, tuple[Tensor, Tensor, float]]
    replaced: dict[str, Tensor] = field(default_factory=dict)


class AdapterSettings(BaseModel):
    """What consumers read of ``adapter_config.json``."""

    model_config = ConfigDict(frozen=True, strict=True)

    r: PositiveInt
    lora_alpha: PositiveFloat
    target_modules: list[str] | str
    rank_pattern: dict[str, PositiveInt] = Field(default_factory=dict)
    alpha_pattern: dict[str, PositiveFloat] = Field(default_factory=dict)
    use_rslora: bool = False
    use_dora: bool = False
    bias: str = "none"
    modules_to_save: list[str] | None = None

    @field_validator("rank_pattern", "alpha_pattern")
    @classmethod
    def _regular_expressions(cls, pattern: dict[str, float]) -> dict[str, float]:
        for key in pattern:
            try:
                re.compile(key)
            except re.error as error:
                raise ValueError(f"{key!r} is no regular expression ({error})") from None
        return pattern

    @classmethod
    def read(cls, folder: Path) -> AdapterSettings:
        """From a folder.

        Raises:
            InputError: the file is missing or damaged.
        """
        path = folder / "adapter_config.json"
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise InputError(f"is missing ({error.strerror}); export anew", file=str(path)) from None
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or None
            raise InputError(f"is damaged ({first['msg']}); export anew", file=str(path), field=field) from None

    @property
    def top_rank(self) -> int:
        """The highest rank of any module."""
        return max([self.r, *self.rank_pattern.values()])


@dataclass(frozen=True)
class AdapterFolder:
    """The two files that consumers of PEFT's format read, and the names of the base model's linear layers."""

    config: AdapterSettings
    tensors: dict[str, Tensor]
    modules: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path, modules: Iterable[str]) -> AdapterFolder:
        """Reads them.

        Raises:
            InputError: one is missing or damaged.
        """
        settings, weights = AdapterSettings.read(folder), folder / "adapter_model.safetensors"
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
        alpha = self.config.lora_alpha if alpha is None else alpha
        return alpha / (math.sqrt(rank) if self.config.use_rslora else rank)


def _matched(pattern: Mapping[str, _Value], module: str) -> _Value | None:
    """What a pattern gives a module, by PEFT's matching: the first key that matches."""
    return next((value for key, value in pattern.items() if re.match(rf"(.*\.)?({key})$", module)), None)


def axolotl(folder: AdapterFolder) -> Reading:
    """Axolotl 0.19.0 merging an adapter: each tensor's rank, and α by PEFT's matching.

    Source: ``axolotl/cli/utils/lora_merge.py``, ``_resolve_lora_alpha_for_key`` and
    ``_build_peft_layer_and_get_delta``. Training on from an adapter, axolotl leaves all to PEFT.
    """
    return folder.scaled(lambda name, a: folder.scale_of(len(a), _matched(folder.config.alpha_pattern, name)))


def vllm_slot(rank: int) -> int | None:
    """The least ``--max-lora-rank`` that a rank fits into; None where there is none."""
    return next((slot for slot in VLLM_RANKS if slot >= rank), None)


def vllm_to_0_31(folder: AdapterFolder) -> Reading:
    """VLLM up to 0.31.0: both patterns are dropped, one global α/r or α/√r for all.

    Source: ``vllm/lora/peft_helper.py``, ``PEFTHelper.from_dict`` and ``__post_init__``; ``vllm/lora/lora_weights.py``,
    ``LoRALayerWeights.from_config``.
    """
    scale = folder.scale_of(folder.config.r)
    return _of_vllm(folder, folder.scaled(lambda _name, _a: scale))


def vllm_from_0_32(folder: AdapterFolder) -> Reading:
    """VLLM from 0.32.0: rank and α by PEFT's matching, the rank as configured.

    Source: ``vllm/lora/peft_helper.py``, ``PEFTHelper.get_rank_and_scaling`` (read in 0.33.0).
    """

    def scale(name: str, _a: Tensor) -> float:
        rank = _matched(folder.config.rank_pattern, name)
        return folder.scale_of(rank or folder.config.r, _matched(folder.config.alpha_pattern, name))

    return _of_vllm(folder, folder.scaled(scale))


def _of_vllm(folder: AdapterFolder, reading: Reading) -> Reading:
    """VLLM takes a whole ``classifier`` or ``score``, of one linear layer, and refuses others, DoRA, and biases.

    Source: ``PEFTHelper._validate_features`` and ``vllm/lora/utils.py``, ``parse_fine_tuned_lora_name``;
    ``MaxLoRARanks`` in ``vllm/config/lora.py``.
    """
    if folder.config.use_dora or folder.config.bias != "none":
        raise Refused("it takes no DoRA, and no adapter with biases")
    if folder.config.top_rank > VLLM_RANKS[-1]:
        raise Refused(f"it takes ranks up to {VLLM_RANKS[-1]}")
    heads = folder.config.modules_to_save or []
    if set(heads) - {"classifier", "score"} or any(len(name.split(".")) != 2 for name in folder.whole):
        raise Refused(f"it takes no modules_to_save but a linear classifier or score, and finds {heads}")
    return Reading(reading.updates, folder.whole)


def sglang(folder: AdapterFolder) -> Reading:
    """SGLang 0.5.23: one global α/r for all, rsLoRA ignored, and every tensor must have the configured rank.

    Q, K and V are stacked, as are gate and up: Q needs V beside it, and V or K without Q are no module that it knows.

    Source: ``sglang/srt/lora/lora.py``, ``LoRAAdapter.scaling``, ``normalize_qkv_proj`` and
    ``normalize_gate_up_proj``; ``lora/mem_pool.py``, ``load_lora_weight_tensor``; ``lora/utils.py``,
    ``get_default_hidden_dim``, which knows no other modules.
    """
    if folder.whole:
        raise Refused("it takes no modules_to_save")
    if strangers := sorted({name.rpartition(".")[2] for name in folder.factors} - _SGLANG_MODULES):
        raise NotServed(f"takes no adapters for modules called {', '.join(strangers)}")
    rank = folder.config.r
    for name, (a, _) in folder.factors.items():
        if len(a) != rank:
            raise Refused(f"it loads tensors of rank r = {rank} alone, and {name} has {len(a)}")
    named = set(folder.factors)
    for name in named:
        stem, _, last = name.rpartition(".")
        beside = {other.rpartition(".")[2] for other in named if other.rpartition(".")[0] == stem}
        if last in {"q_proj", "k_proj", "v_proj"} and not {"q_proj", "v_proj"} <= beside:
            raise Refused(f"it stacks Q, K and V, and {stem} adapts {', '.join(sorted(beside))} alone")
    scale = folder.config.lora_alpha / rank
    return folder.scaled(lambda _name, _a: scale)


def lorax(folder: AdapterFolder) -> Reading:
    """LoRAX on one GPU: layers are stacked by kind of module, with one global scale.

    A kind that one layer lacks is left out altogether. Ranks are padded to 8, or to multiples of 16, and the padded
    number takes the place of r for the kinds that follow. On several GPUs it is 8 for each.

    Source: ``lorax_server/adapters/lora.py``, ``LoraWeights.load``; ``lorax_server/utils/sgmv.py``, ``pad_rank``;
    ``text_generation_server/adapters/lora.py``, ``LoraWeights.prepare_weights``.
    """
    if folder.whole:
        raise Refused("it takes no modules_to_save")
    if outside := [name for name in folder.factors if layer_of(name) == name]:
        raise NotServed(f"what it makes of adapters outside layers, such as {outside[0]}, is not modelled")
    kinds: dict[str, list[str]] = {}
    for name in folder.modules:
        if layer_of(name) != name:
            kinds.setdefault(kind_of(name), []).append(name)
    rank = folder.config.r
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


def tgi(folder: AdapterFolder) -> Reading:
    """TGI, which took LoRAX's code, and looks for layers of llama's names alone.

    Source: ``text_generation_server/utils/adapter.py``, ``build_layer_weight_lookup``.
    """
    inside = [name for name in folder.factors if layer_of(name) != name]
    if strangers := [name for name in inside if not name.startswith("model.layers.")]:
        raise NotServed(f"looks for adapters under model.layers alone, and this has {strangers[0]}")
    return lorax(folder)


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
