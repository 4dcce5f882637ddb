"""What every task with a retriever does with it: embed texts, and learn which belong together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from rank_search.tasks.batching import by_map, in_batches, model_inputs, repeated, tokenise

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


def embed(retriever: Retriever, ids: Sequence[Sequence[int]], batch_size: int, copies: int = 1) -> Tensor:
    """Unit vectors ``[copies, len(ids), dimension]`` on the CPU, in batches of like length, without gradient."""

    def vectors(batch: list[int]) -> Sequence[Tensor]:
        return _unit_vectors(retriever, inputs(retriever, [ids[i] for i in batch]), copies).cpu().unbind(dim=1)

    with torch.inference_mode():
        return torch.stack(in_batches([len(text) for text in ids], batch_size, vectors, copies), dim=1)


def _unit_vectors(retriever: Retriever, rows: dict[str, Tensor], copies: int) -> Tensor:
    """``[copies, rows, dimension]``."""
    return by_map(functional.normalize(retriever.encoder(repeated(rows, copies)), dim=-1), copies)


def ranking_loss(
    retriever: Retriever,
    queries: dict[str, Tensor],
    documents: dict[str, Tensor],
    others: Tensor,
    scale: float,
    copies: int,
) -> Tensor:
    """Multiple-negatives ranking loss (arXiv:1705.00652, section 4.4), ``[copies]``.

    Cross-entropy of each query's own document among all documents of the batch, over cosine similarities
    times ``scale``. The first documents are the queries' own, in their order; more may follow.

    Args:
        retriever: the encoder as it stands.
        queries: encoder inputs, ``[batch, length]``.
        documents: encoder inputs, ``[documents, length]``.
        others: boolean ``[batch, documents]``: right answers beside a query's own, which must not count
            as wrong ones.
        scale: 1 / temperature.
        copies: how many maps stand in the encoder.
    """
    similarities = _unit_vectors(retriever, queries, copies) @ _unit_vectors(retriever, documents, copies).mT
    logits = (similarities * scale).masked_fill(others, -torch.inf)
    return -functional.log_softmax(logits, dim=-1).diagonal(dim1=1, dim2=2).mean(dim=1)
