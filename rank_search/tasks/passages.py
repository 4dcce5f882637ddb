"""Passages for questions: found by a retriever, or given by the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rank_search.tasks.embedding import document_ids, embed, query_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rank_search.config import AnswerConfig
    from rank_search.data.answered import Answered
    from rank_search.models.retriever import Retriever


class Passages:
    """A corpus, and a retriever that searches it as it stands: adapted while an adapter is in it."""

    def __init__(self, retriever: Retriever, corpus: Sequence[str], batch_size: int) -> None:
        self._retriever = retriever
        self._corpus = corpus
        self._batch_size = batch_size
        self.ids, self.cut = document_ids(retriever, corpus)

    def find(self, questions: Sequence[str], count: int, copies: int = 1) -> list[list[list[int]]]:
        """Of each map that stands in the retriever, positions of the best passages for each question, best first."""
        queries, _ = query_ids(self._retriever, questions)
        vectors = embed(self._retriever, queries, self._batch_size, copies)
        similarities = vectors @ embed(self._retriever, self.ids, self._batch_size, copies).mT
        found: list[list[list[int]]] = torch.topk(similarities, min(count, len(self._corpus)), dim=2).indices.tolist()
        return found

    def texts(self, positions: Sequence[int]) -> list[str]:
        """The passages at some positions."""
        return [self._corpus[i] for i in positions]


def given_passages(examples: Sequence[Answered], settings: AnswerConfig, found: Passages | None) -> list[list[str]]:
    """The passages of each question: what a retriever finds, or the one passage of the data."""
    if found is None:
        return [[of.passage] for of in examples]
    (places,) = found.find([of.question for of in examples], settings.passages)
    return [found.texts(of) for of in places]
