"""Passages for questions: retrieved from a corpus, or given by the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rank_search.tasks.embedding import embed, token_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rank_search.config import AnswerConfig
    from rank_search.data.answered import AnsweredQuestion
    from rank_search.models.retriever import Retriever


class PassageRetriever:
    """Searches a corpus with a retriever; while adapters are in the retriever, it searches with them.

    Attributes:
        ids: token ids of each passage.
        truncated: number of passages that were longer than the retriever's limit.
    """

    def __init__(self, retriever: Retriever, corpus: Sequence[str], batch_size: int) -> None:
        self._retriever = retriever
        self._corpus = corpus
        self._batch_size = batch_size
        self.ids, self.truncated = token_ids(retriever, corpus, retriever.document)

    def find(self, questions: Sequence[str], count: int, copies: int = 1) -> list[list[list[int]]]:
        """Positions of the ``count`` best passages, best first: for each adapter, for each question."""
        retriever = self._retriever
        queries, _ = token_ids(retriever, questions, retriever.query)
        vectors = embed(retriever, queries, retriever.query, self._batch_size, copies)
        similarities = vectors @ embed(retriever, self.ids, retriever.document, self._batch_size, copies).mT
        best = torch.topk(similarities, min(count, len(self._corpus)), dim=2).indices
        positions: list[list[list[int]]] = best.tolist()
        return positions

    def texts(self, positions: Sequence[int]) -> list[str]:
        """The texts of the passages at these positions."""
        return [self._corpus[i] for i in positions]


def select_passages(
    examples: Sequence[AnsweredQuestion], settings: AnswerConfig, retriever: PassageRetriever | None
) -> list[list[str]]:
    """The passages of each question: those that the retriever finds, or without one the passage of the data."""
    if retriever is None:
        return [[example.passage] for example in examples]
    (positions,) = retriever.find([example.question for example in examples], settings.passages)
    return [retriever.texts(best) for best in positions]
