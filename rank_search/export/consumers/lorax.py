"""LoRAX: not on PyPI, so only its rules are known here."""

from rank_search.export import stacked_layers
from rank_search.export.protocol import ADAPTER_FORMATS, CAUSAL_LMS, Consumer, Reader

# Classes whose layers take adapters (``lorax_server/models/flash_*.py``, those that load an adapter).
_SUPPORTED = frozenset(
    {
        "CohereForCausalLM",
        "DbrxForCausalLM",
        "GPT2LMHeadModel",
        "GemmaForCausalLM",
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "MixtralForCausalLM",
        "Phi3ForCausalLM",
        "PhiForCausalLM",
        "Qwen2ForCausalLM",
    }
)

CONSUMER = Consumer(
    name="LoRAX",
    position=60,
    readers=(
        Reader(
            label="lorax",
            name="LoRAX",
            package="lorax-server",
            formats=ADAPTER_FORMATS,
            auto_classes=CAUSAL_LMS,
            certified=frozenset({"padded"}),
            supported=_SUPPORTED,
            rules=lambda bundle: stacked_layers.rule(bundle.adapter),
            rules_version="03679f3",
        ),
    ),
    serving_note=stacked_layers.serving_note,
)
