"""LoRAX: not on PyPI, so only its rules are known here."""

from rank_search.export import stacked_layers
from rank_search.export.protocol import ADAPTER_FORMATS, CAUSAL_LMS, Consumer, Reader

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
            rules=lambda bundle: stacked_layers.rule(bundle.adapter),
            rules_version="03679f3",
        ),
    ),
    serving_note=stacked_layers.serving_note,
)
