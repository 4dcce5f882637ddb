"""TGI: took LoRAX's code, and knows only layers with llama's names; not on PyPI, so only its rules are known here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rank_search.core.module_names import layer_of
from rank_search.export import stacked_layers
from rank_search.export.protocol import ADAPTER_FORMATS, CAUSAL_LMS, Consumer, Reader
from rank_search.export.updates import AppliedUpdates, NotServed

if TYPE_CHECKING:
    from rank_search.export.adapter_files import AdapterFiles


def rule(adapter: AdapterFiles) -> AppliedUpdates:
    """LoRAX's rule, for adapters in ``model.layers``.

    Source: ``text_generation_server/utils/adapter.py``, ``build_layer_weight_lookup``.
    """
    in_layers = [name for name in adapter.factors if layer_of(name) != name]
    if others := [name for name in in_layers if not name.startswith("model.layers.")]:
        raise NotServed(f"looks for adapters only under model.layers, and this has {others[0]}")
    return stacked_layers.rule(adapter)


# Classes whose layers take adapters (``custom_modeling/flash_llama_modeling.py`` and ``flash_mistral_modeling.py``).
_SUPPORTED = frozenset({"LlamaForCausalLM", "MistralForCausalLM"})

CONSUMER = Consumer(
    name="TGI",
    position=70,
    readers=(
        Reader(
            label="tgi",
            name="TGI",
            package="text-generation-server",
            formats=ADAPTER_FORMATS,
            auto_classes=CAUSAL_LMS,
            certified=frozenset({"padded"}),
            supported=_SUPPORTED,
            rules=lambda bundle: rule(bundle.adapter),
            rules_version="45d95bd",
        ),
    ),
    serving_note=stacked_layers.serving_note,
)
