"""PEFT: the format that all others are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rank_search.export.origin import write_origin
from rank_search.export.protocol import ADAPTER_FORMATS, ALL_MODELS, Consumer, Reader, Trainer

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from rank_search.export.protocol import Bundle
    from rank_search.export.training_plan import TrainingPlan


def outputs_of_bundle(bundle: Bundle) -> Tensor:
    """The base model's outputs with the adapter that PEFT loads."""
    from rank_search.adapters import loaded
    from rank_search.export.probe import outputs

    with loaded(bundle.base.model, bundle.folder):
        return outputs(bundle.base.model, bundle.reference.ids, bundle.reference.mask)


def write_config(plan: TrainingPlan, out: Path) -> list[str]:
    """Writes ``adapter_config.json`` without weights, and a README; PEFT initialises A and B."""
    plan.config.save_pretrained(str(out))
    write_origin(out, plan.part)
    return []


CONSUMER = Consumer(
    name="PEFT",
    position=10,
    readers=(
        Reader(
            label="peft",
            name="PEFT",
            package="peft",
            formats=ADAPTER_FORMATS,
            auto_classes=ALL_MODELS,
            certified=ADAPTER_FORMATS,
            native=ADAPTER_FORMATS,
            own_code=outputs_of_bundle,
        ),
    ),
    trainer=Trainer("lora-config", "PEFT", write_config, causal_lms_only=False),
)
