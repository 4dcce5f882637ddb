"""transformers: loads the base model with the adapter merged into its weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rank_search.export.protocol import ALL_MODELS, Consumer, Reader
from rank_search.export.updates import Refused

if TYPE_CHECKING:
    from torch import Tensor

    from rank_search.export.protocol import Bundle

# Fields of a configuration in which a merged model differs from its base model.
_FREE = frozenset(
    {
        "_name_or_path",
        "architectures",
        "dtype",
        "id2label",
        "label2id",
        "problem_type",
        "tie_word_embeddings",
        "transformers_version",
    }
)
_MERGED = frozenset({"merged"})


def outputs_of_bundle(bundle: Bundle) -> Tensor:
    """Outputs of the merged model in float32.

    Raises:
        Refused: its configuration is not that of the base model, whose shapes it must have.
    """
    import torch

    from rank_search.export.probe import outputs

    _check_config(bundle)
    model = type(bundle.base.model).from_pretrained(bundle.folder, dtype=torch.float32, use_safetensors=True)
    return outputs(model, bundle.reference.ids, bundle.reference.mask)


def _check_config(bundle: Bundle) -> None:
    base = bundle.base.model.config
    content = json.loads((bundle.folder / "config.json").read_text(encoding="utf-8"))
    if "num_labels" in content:  # it would make a name for each; the names themselves are in the file
        raise Refused("config.json has num_labels, which no export writes")
    found, expected = type(base).from_dict(content).to_dict(), base.to_dict()
    for name in sorted((found.keys() | expected.keys()) - _FREE):
        if found.get(name) != expected.get(name):
            raise Refused(
                f"config.json has {name} {found.get(name)!r:.60}, and the base model {expected.get(name)!r:.60}"
            )


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
