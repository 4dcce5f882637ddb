"""What every task with a retriever does with it: embed texts, and learn which belong together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from rank_search.tasks.batching import in_batches, model_inputs, tokenise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from rank_search.models.retriever import Retriever


def query_ids(retriever: Retriever, texts: Sequence[str], limit: int | None = None) -> tuple[list[list[int]], int]:
    """Token ids of queries, and how many were cut to ``limit`` or the model's own."""
    return _ids(retriever, [retriever.query_prompt + text for text in texts], limit)


def document_ids(retriever: Retriever, texts: Sequence[str], limit: int | None = None) -> tuple[list[list[int]], int]:
    """Token ids of documents, and how many were cut to ``limit`` or the model's own."""
    return _ids(retriever, [retriever.document_prompt + text for text in texts], limit)


def _ids(retriever: Retriever, texts: list[str], limit: int | None) -> tuple[list[list[int]], int]:
    return tokenise(retriever.tokenizer, texts, min(limit or retriever.max_length, retriever.max_length))


def inputs(retriever: Retriever, ids: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """``input_ids`` and ``attention_mask`` for the encoder, both ``[len(ids), longest]``."""
    device = next(retriever.encoder.parameters()).device
    return model_inputs(ids, int(retriever.tokenizer.pad_token_id or 0), device)


def embed(retriever: Retriever, ids: Sequence[Sequence[int]], batch_size: int) -> Tensor:
    """Unit vectors ``[len(ids), dimension]`` on the CPU, computed in batches of like length, without gradient."""

    def vectors(batch: list[int]) -> Sequence[Tensor]:
        found = retriever.encoder(inputs(retriever, [ids[i] for i in batch]))
        return functional.normalize(found, dim=-1).cpu().unbind()

    with torch.inference_mode():
        return torch.stack(in_batches([len(text) for text in ids], batch_size, vectors))


def ranking_loss(
    retriever: Retriever, queries: dict[str, Tensor], documents: dict[str, Tensor], others: Tensor, scale: float
) -> Tensor:
    """Multiple-negatives ranking loss (arXiv:1705.00652, section 4.4).

    Cross-entropy of each query's own document among all documents of the batch, over cosine similarities
    times ``scale``. The first documents are the queries' own, in their order; more may follow.

    Args:
        retriever: the encoder as it stands.
        queries: encoder inputs, ``[batch, length]``.
        documents: encoder inputs, ``[documents, length]``.
        others: boolean ``[batch, documents]``: right answers beside a query's own, which must not count
            as wrong ones.
        scale: 1 / temperature.
    """
    query_vectors = functional.normalize(retriever.encoder(queries), dim=-1)
    document_vectors = functional.normalize(retriever.encoder(documents), dim=-1)
    logits = query_vectors @ document_vectors.T * scale
    logits = logits.masked_fill(others, -torch.inf)
    return functional.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
