"""Retrieval task: a query must rank its relevant documents above all others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rank_search.core.errors import InputError
from rank_search.core.evaluation import Evaluation
from rank_search.data.splits import selection_of
from rank_search.tasks.augmentation import augment_texts, load_augmentation
from rank_search.tasks.base import BatchShape, Example, MarkedText, Output, examples_to_show
from rank_search.tasks.batching import CALIBRATION_BATCHES, check_batch_size, training_indices
from rank_search.tasks.embedding import embed, encoder_inputs, ranking_loss, scale_notes, token_ids
from rank_search.tasks.metrics import ndcg, recall, reciprocal_rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import nn

    from rank_search.config import RetrievalConfig, TrainingConfig
    from rank_search.core.evaluation import Split
    from rank_search.data.searchable import SearchData
    from rank_search.models.retriever import Retriever

METRICS: dict[str, Callable[[Sequence[int]], float]] = {
    "ndcg@10": lambda gains: ndcg(gains, 10),
    "mrr@10": lambda gains: reciprocal_rank(gains, 10),
    "recall@1": lambda gains: recall(gains, 1),
    "recall@5": lambda gains: recall(gains, 5),
    "recall@10": lambda gains: recall(gains, 10),
}

_DEEPEST = 10  # rank that any metric looks at
_SHOWN = 5  # documents shown for an example


@dataclass(frozen=True)
class Tokens:
    """Token ids of the texts of one split, truncated to their limits."""

    queries: Sequence[list[int]]
    documents: Sequence[list[int]]


@dataclass(frozen=True)
class RetrievalBatch:
    """Queries and, in the same order, one relevant document of each.

    Attributes:
        queries: encoder inputs, ``[batch, longest query]``.
        documents: encoder inputs, ``[batch, longest document]``.
        other_positives: boolean ``[batch, batch]``: relevant documents of other rows.
    """

    queries: dict[str, Tensor]
    documents: dict[str, Tensor]
    other_positives: Tensor


class RetrievalTask:
    """Sentence embedding with in-batch negatives; implements `rank_search.tasks.base.Task`.

    Raises:
        InputError: a batch is larger than the training split, or has a single pair.
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
            raise InputError("1 leaves no other documents as negatives; write 2 or more", field="training.batch_size")
        check_batch_size(training, len(self._pairs))
        self.cut: Mapping[str, tuple[int, int]] = {}
        self._tokens = self._tokenise()

    @property
    def backbone(self) -> nn.Module:
        """The frozen transformer inside the sentence encoder."""
        return self._retriever.encoder.backbone

    @property
    def fingerprint(self) -> str:
        """A digest of the base model's weights."""
        return self._retriever.fingerprint

    @property
    def data_fingerprint(self) -> str:
        """A digest that changes with any text or split of the data."""
        return self._data.fingerprint

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user: what the data loses, what its parts share, what a model's files leave open."""
        scale = scale_notes(self._retriever, self._settings.similarity_scale)
        return (*self._data.notes, *self._retriever.notes, *scale)

    def training_batches(self, steps: int, seed: int, *, augmented: bool = False) -> Iterator[RetrievalBatch]:
        """Yields shuffled pairs; a batch holds documents of similar length, then queries of similar length."""
        tokens = self._tokens["train"]
        relevant = self._data.train.relevant
        lengths = [(len(tokens.documents[document]), len(tokens.queries[query])) for query, document in self._pairs]
        for number, batch in enumerate(training_indices(lengths, self._training.batch_size, steps, seed)):
            queries = [self._pairs[i][0] for i in batch]
            documents = [self._pairs[i][1] for i in batch]
            positives = torch.tensor([[document in relevant[query] for document in documents] for query in queries])
            positives.fill_diagonal_(fill_value=False)
            query_tokens = [tokens.queries[i] for i in queries]
            document_tokens = [tokens.documents[i] for i in documents]
            if augmented:
                texts = self._data.train
                query_tokens = self._query_ids(self._augmented(texts.queries, queries, seed, number))[0]
                document_tokens = self._document_ids(self._augmented(texts.documents, documents, seed, number))[0]
            yield RetrievalBatch(
                encoder_inputs(self._retriever, query_tokens),
                encoder_inputs(self._retriever, document_tokens),
                other_positives=positives,
            )

    def batch_shapes(self, batch: RetrievalBatch) -> dict[str, list[BatchShape]]:
        """The shapes of the queries and the documents."""
        return {"": [BatchShape.from_inputs(batch.queries), BatchShape.from_inputs(batch.documents)]}

    def loss(self, batch: RetrievalBatch, copies: int = 1) -> Tensor:
        """Multiple-negatives ranking loss, for each adapter."""
        other_positives = batch.other_positives.to(batch.queries["input_ids"].device)
        scale = self._settings.similarity_scale
        return ranking_loss(self._retriever, batch.queries, batch.documents, other_positives, scale, copies)

    def examples_in(self, split: Split) -> int:
        """The number of queries."""
        return len(self._tokens[split].queries)

    def size(self, split: Split) -> int:
        """The number of queries and documents."""
        return len(self._tokens[split].queries) + len(self._tokens[split].documents)

    def evaluate(self, split: Split, copies: int = 1) -> list[Evaluation]:
        """Ranks every document of the split for every query of it, by the model's similarity."""
        tokens = self._tokens[split]
        size = self._training.eval_batch_size
        retriever = self._retriever
        queries = embed(retriever, tokens.queries, retriever.query, size, copies)
        documents = embed(retriever, tokens.documents, retriever.document, size, copies)
        relevant: Sequence[Mapping[int, int]] = getattr(self._data, split).relevant
        selection = selection_of(self._data, split)
        return [self._scored(*vectors, relevant, selection) for vectors in zip(queries, documents, strict=True)]

    def _scored(
        self, queries: Tensor, documents: Tensor, relevant: Sequence[Mapping[int, int]], selection: int
    ) -> Evaluation:
        size = self._training.eval_batch_size
        values: dict[str, list[float]] = {name: [] for name in METRICS}
        outputs: list[list[int]] = []
        for vectors, gains in zip(torch.split(queries, size), _chunks(relevant, size), strict=True):
            similarities = vectors @ documents.T
            for name, scores in score_rankings(similarities, gains).items():
                values[name] += scores
            outputs += similarities.topk(min(_SHOWN, len(documents)), dim=1).indices.tolist()
        return Evaluation(self._settings.metric, values, outputs, selection)

    def calibration_batches(self, seed: int) -> dict[str, list[dict[str, Tensor]]]:
        """The document inputs of the first training batches."""
        return {"": [batch.documents for batch in self.training_batches(CALIBRATION_BATCHES, seed)]}

    def examples(self, split: Split, before: Evaluation, after: Evaluation) -> list[Example]:
        """The queries with the largest gain, the median gain and the largest loss."""
        data = getattr(self._data, split)

        def output(evaluation: Evaluation, query: int) -> Output:
            best = evaluation.outputs[query]
            return Output(tuple(MarkedText(data.documents[i], i in data.relevant[query]) for i in best))

        return [
            Example(title, data.queries[i], "", output(before, i), output(after, i))
            for title, i in examples_to_show(before, after)
        ]

    def _tokenise(self) -> dict[str, Tokens]:
        """Tokenises every split and counts the truncated texts; a corpus that splits share is tokenised once."""
        corpora: dict[int, tuple[list[list[int]], int]] = {}
        tokens = {}
        truncated_queries = 0
        for part in ("train", "validation", "test"):
            data = getattr(self._data, part)
            if id(data.documents) not in corpora:
                corpora[id(data.documents)] = self._document_ids(data.documents)
            queries, truncated = self._query_ids(data.queries)
            truncated_queries += truncated
            tokens[part] = Tokens(queries, corpora[id(data.documents)][0])
        self.cut = {
            "queries": (truncated_queries, sum(len(split.queries) for split in tokens.values())),
            "documents": (
                sum(truncated for _, truncated in corpora.values()),
                sum(len(ids) for ids, _ in corpora.values()),
            ),
        }
        return tokens

    def _query_ids(self, texts: Sequence[str]) -> tuple[list[list[int]], int]:
        return token_ids(self._retriever, texts, self._retriever.query, self._settings.query_length)

    def _document_ids(self, texts: Sequence[str]) -> tuple[list[list[int]], int]:
        return token_ids(self._retriever, texts, self._retriever.document, self._settings.document_length)

    def _augmented(self, texts: Sequence[str], positions: list[int], seed: int, batch: int) -> list[str]:
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
    return {name: metric(gains) for name, metric in METRICS.items()}


def _chunks(items: Sequence[Mapping[int, int]], size: int) -> Iterator[Sequence[Mapping[int, int]]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
