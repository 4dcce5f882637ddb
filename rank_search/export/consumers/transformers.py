"""transformers: loads the base model with the adapter merged into its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rank_search.export.protocol import ALL_MODELS, Consumer, Reader

if TYPE_CHECKING:
    from torch import Tensor

    from rank_search.export.protocol import Bundle

_MERGED = frozenset({"merged"})


def outputs_of_bundle(bundle: Bundle) -> Tensor:
    """Outputs of the merged model in float32.

    Raises:
        Refused: its configuration is not that of the base model, whose shapes it must have.
    """
    import torch

    from rank_search.export.merged_config import check_config
    from rank_search.export.probe import outputs

    check_config(bundle)
    model = type(bundle.base.model).from_pretrained(bundle.folder, dtype=torch.float32, use_safetensors=True)
    return outputs(model, bundle.reference.ids, bundle.reference.mask)


CONSUMER = Consumer(
    name="transformers",
    position=20,
    readers=(
        Reader(
            label="transformers",
            name="transformers",
            package="transformers",
            formats=_MERGED,
            auto_classes=ALL_MODELS,
            certified=_MERGED,
            native=_MERGED,
            own_code=outputs_of_bundle,
        ),
    ),
)
