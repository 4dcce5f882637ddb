"""Retrieval: a query must rank its documents above all others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchmetrics.functional.retrieval import (
    retrieval_normalized_dcg,
    retrieval_recall,
    retrieval_reciprocal_rank,
)

from rank_search.core.errors import InputError
from rank_search.core.evaluation import Evaluation
from rank_search.tasks.augmentation import augment_texts, load_augmentation
from rank_search.tasks.base import Example, Output, Shown, Texts, telling
from rank_search.tasks.batching import CALIBRATION_BATCHES, check_batch_size, training_indices
from rank_search.tasks.embedding import document_ids, embed, inputs, query_ids, ranking_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import nn

    from rank_search.config import RetrievalConfig, TrainingConfig
    from rank_search.core.evaluation import Split
    from rank_search.data.searchable import SearchData
    from rank_search.models.retriever import Retriever

METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ndcg@10": lambda scores, gains: retrieval_normalized_dcg(scores, gains, top_k=10),
    "mrr@10": lambda scores, gains: retrieval_reciprocal_rank(scores, gains > 0, top_k=10),
    "recall@1": lambda scores, gains: retrieval_recall(scores, gains > 0, top_k=1),
    "recall@5": lambda scores, gains: retrieval_recall(scores, gains > 0, top_k=5),
    "recall@10": lambda scores, gains: retrieval_recall(scores, gains > 0, top_k=10),
}

_DEEPEST = 10  # rank that any metric looks at
_SHOWN = 5  # documents shown for an example


@dataclass(frozen=True)
class Tokens:
    """Token ids of one split's texts, each already cut to its limit."""

    queries: Sequence[list[int]]
    documents: Sequence[list[int]]


@dataclass(frozen=True)
class RetrievalBatch:
    """``batch`` queries and, in the same order, a document of each; padded to their own longest text.

    Attributes:
        queries: encoder inputs.
        documents: encoder inputs.
        others: boolean ``[batch, batch]``: documents that answer a query beside its own.
    """

    queries: dict[str, Tensor]
    documents: dict[str, Tensor]
    others: Tensor


class RetrievalTask:
    """Sentence embedding with in-batch negatives; implements `rank_search.tasks.base.Task`.

    Raises:
        InputError: a batch is larger than the training split, or holds a single pair.
    """

    head = ()
    classes = ()

    def __init__(
        self, settings: RetrievalConfig, training: TrainingConfig, data: SearchData, retriever: Retriever
    ) -> None:
        self._settings = settings
        self._training = training
        self._data = data
        self._retriever = retriever
        self._pairs = data.train.pairs
        self._augment = load_augmentation(training)
        if training.batch_size < 2:
            raise InputError(
                "1 leaves no other document to tell the right one from; write 2 or more", field="training.batch_size"
            )
        check_batch_size(training, len(self._pairs))
        self.cut: Mapping[str, tuple[int, int]] = {}
        self._tokens = self._tokenise()

    @property
    def backbone(self) -> nn.Module:
        """The frozen transformer inside the sentence encoder."""
        return self._retriever.encoder.backbone

    @property
    def fingerprint(self) -> str:
        """Names the base model's weights."""
        return self._retriever.fingerprint

    @property
    def data_fingerprint(self) -> str:
        """Changes with any text or split of the data."""
        return self._data.fingerprint

    def training_batches(self, steps: int, seed: int, *, augmented: bool = False) -> Iterator[RetrievalBatch]:
        """Shuffled pairs; documents of like length stand together, and among these queries of like length."""
        tokens = self._tokens["train"]
        relevant = self._data.train.relevant
        lengths = [(len(tokens.documents[document]), len(tokens.queries[query])) for query, document in self._pairs]
        for number, batch in enumerate(training_indices(lengths, self._training.batch_size, steps, seed)):
            queries = [self._pairs[i][0] for i in batch]
            documents = [self._pairs[i][1] for i in batch]
            also_right = torch.tensor([[document in relevant[query] for document in documents] for query in queries])
            also_right.fill_diagonal_(fill_value=False)
            query_tokens = [tokens.queries[i] for i in queries]
            document_tokens = [tokens.documents[i] for i in documents]
            if augmented:
                texts, settings = self._data.train, self._settings
                changed = self._changed(texts.queries, queries, seed, number)
                query_tokens = query_ids(self._retriever, changed, settings.query_length)[0]
                changed = self._changed(texts.documents, documents, seed, number)
                document_tokens = document_ids(self._retriever, changed, settings.document_length)[0]
            yield RetrievalBatch(
                inputs(self._retriever, query_tokens), inputs(self._retriever, document_tokens), also_right
            )

    def texts(self, batch: RetrievalBatch) -> dict[str, list[Texts]]:
        """Queries and documents."""
        return {"": [Texts.of(batch.queries), Texts.of(batch.documents)]}

    def loss(self, batch: RetrievalBatch, copies: int = 1) -> Tensor:
        """Multiple-negatives ranking loss."""
        others = batch.others.to(batch.queries["input_ids"].device)
        scale = self._settings.similarity_scale
        return ranking_loss(self._retriever, batch.queries, batch.documents, others, scale, copies)

    def size(self, split: Split) -> int:
        """Queries and documents."""
        return len(self._tokens[split].queries) + len(self._tokens[split].documents)

    def evaluate(self, split: Split, copies: int = 1) -> list[Evaluation]:
        """Ranks every document of the split for every query of it, by cosine similarity."""
        tokens = self._tokens[split]
        size = self._training.eval_batch_size
        queries = embed(self._retriever, tokens.queries, size, copies)
        documents = embed(self._retriever, tokens.documents, size, copies)
        relevant: Sequence[Mapping[int, int]] = getattr(self._data, split).relevant
        return [self._scored(*of, relevant) for of in zip(queries, documents, strict=True)]

    def _scored(self, queries: Tensor, documents: Tensor, relevant: Sequence[Mapping[int, int]]) -> Evaluation:
        size = self._training.eval_batch_size
        values: dict[str, list[float]] = {name: [] for name in METRICS}
        outputs: list[list[int]] = []
        for vectors, found in zip(torch.split(queries, size), _chunks(relevant, size), strict=True):
            similarities = vectors @ documents.T
            for name, of_query in score_rankings(similarities, found).items():
                values[name] += of_query
            outputs += similarities.topk(min(_SHOWN, len(documents)), dim=1).indices.tolist()
        return Evaluation(self._settings.metric, values, outputs)

    def calibration_batches(self, seed: int) -> dict[str, list[dict[str, Tensor]]]:
        """Documents of the first training batches."""
        return {"": [batch.documents for batch in self.training_batches(CALIBRATION_BATCHES, seed)]}

    def examples(self, split: Split, before: Evaluation, after: Evaluation) -> list[Example]:
        """The query that gained most, the one in the middle, and the one that lost most."""
        data = getattr(self._data, split)

        def found(evaluation: Evaluation, query: int) -> Output:
            return Output(tuple(Shown(data.documents[i], i in data.relevant[query]) for i in evaluation.outputs[query]))

        return [
            Example(title, data.queries[i], "", found(before, i), found(after, i))
            for title, i in telling(before, after)
        ]

    def _tokenise(self) -> dict[str, Tokens]:
        """Token ids of every split; a corpus that the splits share is tokenised once."""
        corpora: dict[int, tuple[list[list[int]], int]] = {}
        tokens = {}
        long_queries = 0
        for part in ("train", "validation", "test"):
            data = getattr(self._data, part)
            if id(data.documents) not in corpora:
                corpora[id(data.documents)] = document_ids(
                    self._retriever, data.documents, self._settings.document_length
                )
            queries, cut = query_ids(self._retriever, data.queries, self._settings.query_length)
            long_queries += cut
            tokens[part] = Tokens(queries, corpora[id(data.documents)][0])
        self.cut = {
            "queries": (long_queries, sum(len(of.queries) for of in tokens.values())),
            "documents": (sum(cut for _, cut in corpora.values()), sum(len(ids) for ids, _ in corpora.values())),
        }
        return tokens

    def _changed(self, texts: Sequence[str], positions: list[int], seed: int, batch: int) -> list[str]:
        chosen = [texts[i] for i in positions]
        return augment_texts(self._augment, chosen, seed, batch) if self._augment else chosen


def score_rankings(scores: Tensor, relevant: Sequence[Mapping[int, int]]) -> dict[str, list[float]]:
    """Every metric of `METRICS` for every query.

    Args:
        scores: any real scores, ``[queries, documents]``.
        relevant: of each query, position of a document → gain, above 0; one at least.

    Returns:
        Metric → one value a query. All NaN if any score is not finite: sorting would rank NaNs all the
        same, and a broken model get a score.
    """
    if not scores.isfinite().all():
        return {name: [math.nan] * len(scores) for name in METRICS}
    values: dict[str, list[float]] = {name: [] for name in METRICS}
    first = scores.topk(min(_DEEPEST, scores.shape[1]), dim=1).indices.tolist()
    for top, gains in zip(first, relevant, strict=True):
        # What stands below every metric's cut and is not relevant changes none of them, so it is left out.
        ranking = [*top, *(place for place in gains if place not in top)]
        for name, value in _score_ranking(tuple(gains.get(place, 0) for place in ranking)).items():
            values[name].append(value)
    return values


@lru_cache(maxsize=4096)  # where a query has one right document, it can only stand in so many places
def _score_ranking(gains: tuple[int, ...]) -> dict[str, float]:
    """Every metric of one ranking, from the gains of its documents, the first document's first."""
    # Falling numbers stand for the scores: torchmetrics takes a score of 0 or less, as a cosine may
    # be, for "not retrieved" in MRR and recall, and might rank what ties with the tenth before it.
    falling = torch.arange(len(gains), 0, -1.0)
    right = torch.tensor(gains)
    return {name: float(metric(falling, right)) for name, metric in METRICS.items()}


def _chunks(items: Sequence[Mapping[int, int]], size: int) -> Iterator[Sequence[Mapping[int, int]]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
