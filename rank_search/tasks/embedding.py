"""Embedding of texts and the ranking loss, for every task that has a retriever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from rank_search.tasks.batching import in_batches, model_inputs, repeat_copies, split_copies, tokenise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from rank_search.models.retriever import Retriever


def query_ids(retriever: Retriever, texts: Sequence[str], limit: int | None = None) -> tuple[list[list[int]], int]:
    """Token ids of queries, and the number of queries that were truncated to ``limit`` or to the model's limit."""
    return _ids(retriever, [retriever.query_prompt + text for text in texts], limit)


def document_ids(retriever: Retriever, texts: Sequence[str], limit: int | None = None) -> tuple[list[list[int]], int]:
    """Token ids of documents, and the number of documents that were truncated to ``limit`` or to the model's limit."""
    return _ids(retriever, [retriever.document_prompt + text for text in texts], limit)


def _ids(retriever: Retriever, texts: list[str], limit: int | None) -> tuple[list[list[int]], int]:
    return tokenise(retriever.tokenizer, texts, min(limit or retriever.max_length, retriever.max_length))


def encoder_inputs(retriever: Retriever, ids: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Encoder inputs: ``input_ids`` and ``attention_mask``, both ``[len(ids), longest]``."""
    device = next(retriever.encoder.parameters()).device
    return model_inputs(ids, int(retriever.tokenizer.pad_token_id or 0), device)


def embed(retriever: Retriever, ids: Sequence[Sequence[int]], batch_size: int, copies: int = 1) -> Tensor:
    """Embeds texts without gradient; returns unit vectors ``[copies, len(ids), dimension]`` on the CPU."""

    def vectors(batch: list[int]) -> Sequence[Tensor]:
        return _unit_vectors(retriever, encoder_inputs(retriever, [ids[i] for i in batch]), copies).cpu().unbind(dim=1)

    with torch.inference_mode():
        return torch.stack(in_batches([len(text) for text in ids], batch_size, vectors, copies), dim=1)


def _unit_vectors(retriever: Retriever, rows: dict[str, Tensor], copies: int) -> Tensor:
    """Normalised embeddings, ``[copies, rows, dimension]``, with gradient."""
    return split_copies(functional.normalize(retriever.encoder(repeat_copies(rows, copies)), dim=-1), copies)


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
    logits are cosine similarities times ``scale``. Document i is the positive of query i; the documents after the
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
    similarities = _unit_vectors(retriever, queries, copies) @ _unit_vectors(retriever, documents, copies).mT
    logits = (similarities * scale).masked_fill(other_positives, -torch.inf)
    return -functional.log_softmax(logits, dim=-1).diagonal(dim1=1, dim2=2).mean(dim=1)
