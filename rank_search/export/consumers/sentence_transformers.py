"""sentence-transformers: the whole embedder, from texts to vectors, with the adapter in it or merged into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rank_search.export.protocol import ADAPTER_FORMATS, EMBEDDERS, Consumer, Reader

if TYPE_CHECKING:
    from torch import Tensor

    from rank_search.export.protocol import Bundle

_MERGED = "merged"
_FORMATS = ADAPTER_FORMATS | {_MERGED}


def vectors_of_bundle(bundle: Bundle) -> Tensor:
    """Vectors of the texts as queries, then as documents, by ``encode_query`` and ``encode_document``."""
    import torch

    from rank_search.export.probe import TEXTS

    model = _model(bundle)
    encoded = [
        encode(list(TEXTS), convert_to_tensor=True, show_progress_bar=False)
        for encode in (model.encode_query, model.encode_document)
    ]
    return torch.cat(encoded).float().cpu()


def _model(bundle: Bundle) -> Any:
    """The merged embedder, or the base embedder with the adapter that it loads itself.

    Raises:
        Refused: the configuration of a merged embedder is not that of its base model.
    """
    import torch
    from sentence_transformers import SentenceTransformer

    from rank_search.export.merged_config import check_config
    from rank_search.models.retriever import sentence_transformer

    weights = {"dtype": torch.float32, "use_safetensors": True}
    if not (bundle.folder / "adapter_config.json").is_file():
        check_config(bundle)
        return SentenceTransformer(str(bundle.folder), device="cpu", model_kwargs=weights)
    model = sentence_transformer(bundle.base.source, torch.device("cpu"), **weights)
    model.load_adapter(str(bundle.folder))
    return model


CONSUMER = Consumer(
    name="sentence-transformers",
    position=25,
    readers=(
        Reader(
            label="sentence-transformers",
            name="sentence-transformers",
            package="sentence-transformers",
            formats=_FORMATS,
            auto_classes=EMBEDDERS,
            certified=_FORMATS,
            own_code=vectors_of_bundle,
            embeds=True,
        ),
    ),
)
