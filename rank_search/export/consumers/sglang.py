"""SGLang: one rank and one scale for all modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rank_search.export.protocol import ADAPTER_FORMATS, CAUSAL_LMS, Consumer, Reader
from rank_search.export.updates import AppliedUpdates, NotServed, Refused

if TYPE_CHECKING:
    from torch import Tensor

    from rank_search.export.adapter_files import AdapterFiles
    from rank_search.export.protocol import Bundle, ServedBundle

_PEFT_PREFIX = "base_model.model."
_STACKED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
_KNOWN_MODULES = frozenset(
    {"q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj", "gate_proj", "up_proj", "gate_up_proj", "down_proj"}
    | {"embed_tokens", "lm_head"}
)

# Classes of ``sglang/srt/models`` with these modules, and no others, in their layers.
_SUPPORTED = frozenset(
    {
        "Gemma2ForCausalLM",
        "Gemma3ForCausalLM",
        "GemmaForCausalLM",
        "GraniteForCausalLM",
        "LlamaForCausalLM",
        "Ministral3ForCausalLM",
        "MistralForCausalLM",
        "Olmo2ForCausalLM",
        "OlmoForCausalLM",
        "Phi3ForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
    }
)


def rule(adapter: AdapterFiles) -> AppliedUpdates:
    """SGLang 0.5.23: one global α/r for all modules, rsLoRA ignored; every tensor must have the configured rank.

    It stacks Q, K and V, and gate and up: an adapted Q needs an adapted V, and without Q it knows neither V nor K.

    Source: ``sglang/srt/lora/lora.py``, ``LoRAAdapter.scaling``, ``normalize_qkv_proj`` and
    ``normalize_gate_up_proj``; ``lora/mem_pool.py``, ``load_lora_weight_tensor``; ``lora/utils.py``,
    ``get_default_hidden_dim``, which knows no other modules.
    """
    if adapter.whole:
        raise NotServed("takes no modules_to_save")
    if unknown := sorted({name.rpartition(".")[2] for name in adapter.factors} - _KNOWN_MODULES):
        raise NotServed(f"takes no adapters for modules called {', '.join(unknown)}")
    rank = adapter.settings.r
    for name, (a, _) in adapter.factors.items():
        if len(a) != rank:
            raise Refused(f"it loads only tensors of rank r = {rank}, and {name} has {len(a)}")
    _check_stacks(set(adapter.factors))
    scale = adapter.scale(rank, rank_stabilised=False)
    return adapter.scaled(lambda _name, _a: scale)


def _check_stacks(adapted: set[str]) -> None:
    for name in adapted:
        parent, _, last = name.rpartition(".")
        siblings = {other.rpartition(".")[2] for other in adapted if other.rpartition(".")[0] == parent}
        if last in _STACKED["qkv_proj"] and not {"q_proj", "v_proj"} <= siblings:
            raise Refused(f"it stacks Q, K and V, and {parent} adapts only {', '.join(sorted(siblings))}")


def load_by_own_code(bundle: Bundle) -> AppliedUpdates:
    """Loads a bundle with SGLang's own adapter class, then checks ranks as its memory pool does.

    The pool itself needs a GPU, so its rule is modelled (``lora/mem_pool.py``, ``load_lora_weight_tensor``).
    """
    from safetensors.torch import load_file
    from sglang.srt.configs.load_config import LoadConfig
    from sglang.srt.lora.lora import LoRAAdapter
    from sglang.srt.lora.lora_config import LoRAConfig
    from sglang.srt.lora.utils import get_stacked_multiply

    config = LoRAConfig(str(bundle.folder))
    adapter = LoRAAdapter("bundle", config, bundle.base.model.config, LoadConfig(), None)
    try:
        adapter.initialize_weights_from_tensors(load_file(bundle.folder / "adapter_model.safetensors"))
    except (KeyError, RuntimeError) as error:  # stacking needs all its parts, of one rank
        raise Refused(f"{type(error).__name__}: {error}") from None
    updates: dict[str, tuple[Tensor, Tensor, float]] = {}
    for layer in adapter.layers:
        for key, a in layer.weights.items():
            if not key.endswith(".lora_A.weight"):
                continue
            parent, _, last = key.removeprefix(_PEFT_PREFIX).removesuffix(".lora_A.weight").rpartition(".")
            b = layer.weights[key.replace(".lora_A.", ".lora_B.")]
            if len(a) != config.r * get_stacked_multiply(last) or b.shape[1] != config.r:
                raise Refused(f"LoRA buffer for rank {config.r} does not match {key} of shape {tuple(a.shape)}")
            parts = [f"{parent}.{part}" for part in _STACKED.get(last, (last,))]
            rows = [len(bundle.base.model.get_parameter(f"{part}.weight")) for part in parts]
            factors = zip(parts, a.split(config.r), b.split(rows), strict=True)
            updates |= {part: (part_a, part_b, adapter.scaling) for part, part_a, part_b in factors}
    return AppliedUpdates(updates)


def serving_note(bundle: ServedBundle) -> str:
    """The flags to serve a bundle."""
    return f"SGLang: --enable-lora --max-lora-rank {bundle.top_rank} --lora-paths NAME=DIR"


CONSUMER = Consumer(
    name="SGLang",
    position=50,
    readers=(
        Reader(
            label="sglang",
            name="SGLang",
            package="sglang",
            formats=ADAPTER_FORMATS,
            auto_classes=CAUSAL_LMS,
            certified=frozenset({"padded"}),
            supported=_SUPPORTED,
            own_code=load_by_own_code,
            rules=lambda bundle: rule(bundle.adapter),
            rules_version="0.5.23",
            release="sglang==0.5.23",
        ),
    ),
    serving_note=serving_note,
)
