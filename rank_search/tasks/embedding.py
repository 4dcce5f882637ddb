"""Embedding of texts and the ranking loss, for every task that has a retriever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from rank_search.tasks.batching import by_length, in_batches, model_inputs, repeat_copies, split_copies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from rank_search.models.retriever import Retriever, TextKind

_LARGE_SCALE = 5  # a factor that cosine similarities need, and that makes a loss of dot products all or nothing
_PREPARED_TOGETHER = 256  # texts; the library pads them to the longest of them


def token_ids(
    retriever: Retriever, texts: Sequence[str], kind: TextKind, limit: int | None = None
) -> tuple[list[list[int]], int]:
    """Token ids of queries or documents, as the embedder's own pipeline prepares them.

    Args:
        retriever: the embedder.
        texts: the texts.
        kind: ``retriever.query`` or ``retriever.document``.
        limit: maximum number of tokens, if it is below the model's.

    Returns:
        Token ids of each text, and the number of texts that were truncated to the limit.
    """
    most = min(limit or retriever.max_length, retriever.max_length)
    found: list[list[int]] = [[] for _ in texts]
    truncated = 0
    for batch in by_length([len(text) for text in texts], _PREPARED_TOGETHER):
        ids = retriever.token_ids([texts[i] for i in batch], kind, None)
        if long := [place for place, row in enumerate(ids) if len(row) > most]:
            for place, row in zip(
                long, retriever.token_ids([texts[batch[place]] for place in long], kind, most), strict=True
            ):
                ids[place] = row
        truncated += len(long)
        for i, row in zip(batch, ids, strict=True):
            found[i] = row
    return found, truncated


def encoder_inputs(retriever: Retriever, ids: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Encoder inputs: ``input_ids`` and ``attention_mask``, both ``[len(ids), longest]``."""
    device = next(retriever.encoder.parameters()).device
    tokenizer = retriever.tokenizer
    return model_inputs(ids, int(tokenizer.pad_token_id or 0), device, left=tokenizer.padding_side == "left")


def embed(
    retriever: Retriever, ids: Sequence[Sequence[int]], kind: TextKind, batch_size: int, copies: int = 1
) -> Tensor:
    """Embeds texts without gradient; returns vectors ``[copies, len(ids), dimension]`` on the CPU.

    The product of two vectors is the model's similarity of the texts.
    """

    def vectors(batch: list[int]) -> Sequence[Tensor]:
        inputs = encoder_inputs(retriever, [ids[i] for i in batch])
        return _vectors(retriever, inputs, kind, copies).cpu().unbind(dim=1)

    with torch.inference_mode():
        return torch.stack(in_batches([len(text) for text in ids], batch_size, vectors, copies), dim=1)


def _vectors(retriever: Retriever, rows: dict[str, Tensor], kind: TextKind, copies: int) -> Tensor:
    """Embeddings whose product is the model's similarity, ``[copies, rows, dimension]``, with gradient."""
    embeddings = retriever.encoder(repeat_copies(rows, copies), kind)
    if retriever.similarity == "cosine":
        embeddings = functional.normalize(embeddings, dim=-1)
    return split_copies(embeddings, copies)


def ranking_loss(
    retriever: Retriever,
    queries: dict[str, Tensor],
    documents: dict[str, Tensor],
    other_positives: Tensor,
    scale: float,
    copies: int,
) -> Tensor:
    """Multiple-negatives ranking loss (arXiv:1705.00652, section 4.4), ``[copies]``.

    Each query has one positive document. The loss is the cross-entropy of it among all documents of the batch;
    logits are the model's similarities times ``scale``. Document i is the positive of query i; the documents after the
    last positive are further negatives.

    Args:
        retriever: the encoder, with the adapters that are in it.
        queries: encoder inputs, ``[batch, length]``.
        documents: encoder inputs, ``[documents, length]``.
        other_positives: boolean ``[batch, documents]``: further right documents of a query, which must not count
            as negatives.
        scale: 1 / temperature.
        copies: number of adapters in the encoder.
    """
    query_vectors = _vectors(retriever, queries, retriever.query, copies)
    similarities = query_vectors @ _vectors(retriever, documents, retriever.document, copies).mT
    logits = (similarities * scale).masked_fill(other_positives, -torch.inf)
    return -functional.log_softmax(logits, dim=-1).diagonal(dim1=1, dim2=2).mean(dim=1)


def scale_notes(retriever: Retriever, scale: float) -> tuple[str, ...]:
    """A sentence for the user if the factor in the loss does not suit the model's similarity."""
    if retriever.similarity == "cosine" or scale < _LARGE_SCALE:
        return ()
    problem = (
        f"the embedder compares by dot product, and task.similarity_scale {scale:g} is made for cosine similarities"
    )
    return (f"{problem}; 1 is usual for dot products",)
