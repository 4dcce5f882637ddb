"""Retrieval: a query must rank its own document above all others of its split."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.retrieval import (
    retrieval_normalized_dcg,
    retrieval_recall,
    retrieval_reciprocal_rank,
)

from rank_search.errors import InputError
from rank_search.tasks.base import Evaluation, Example, Shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import nn

    from rank_search.config import RetrievalConfig, TrainingConfig
    from rank_search.models import Retriever
    from rank_search.tasks.base import Split
    from rank_search.tasks.stdlib_corpus import PairedData

METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ndcg@10": lambda scores, relevant: retrieval_normalized_dcg(scores, relevant, top_k=10),
    "mrr@10": lambda scores, relevant: retrieval_reciprocal_rank(scores, relevant, top_k=10),
    "recall@1": lambda scores, relevant: retrieval_recall(scores, relevant, top_k=1),
    "recall@5": lambda scores, relevant: retrieval_recall(scores, relevant, top_k=5),
    "recall@10": lambda scores, relevant: retrieval_recall(scores, relevant, top_k=10),
}

_BUCKET = 8  # batches that are sorted by length together
_SHOWN = 5  # documents shown for an example
_CALIBRATION_BATCHES = 4


@dataclass(frozen=True)
class Tokens:
    """Token ids of one split's texts, each already cut to its limit."""

    queries: Sequence[list[int]]
    documents: Sequence[list[int]]


@dataclass(frozen=True)
class RetrievalBatch:
    """``batch`` queries and, in the same order, their documents; each padded to its own longest text."""

    queries: dict[str, Tensor]
    documents: dict[str, Tensor]


class RetrievalTask:
    """Sentence embedding with in-batch negatives; implements `rank_search.tasks.base.Task`.

    Raises:
        InputError: a batch is larger than the training split, or holds a single pair.
    """

    def __init__(
        self, settings: RetrievalConfig, training: TrainingConfig, data: PairedData, retriever: Retriever
    ) -> None:
        self._settings = settings
        self._training = training
        self._data = data
        self._retriever = retriever
        if training.batch_size < 2:
            raise InputError(
                "1 leaves no other document to tell the right one from; write 2 or more", field="training.batch_size"
            )
        if training.batch_size > len(data.train):
            raise InputError(
                f"{training.batch_size} is more than the {len(data.train)} training pairs; lower it",
                field="training.batch_size",
            )
        self._device = next(retriever.encoder.parameters()).device
        self._tokens = {name: self._tokenise(name) for name in ("train", "validation", "test")}

    @property
    def backbone(self) -> nn.Module:
        """The frozen transformer inside the sentence encoder."""
        return self._retriever.encoder.backbone

    @property
    def fingerprint(self) -> str:
        """Names the base model's weights."""
        return self._retriever.fingerprint

    def training_batches(self, steps: int, seed: int) -> Iterator[RetrievalBatch]:
        """Shuffled batches; texts of like length stand together, so that little is padding."""
        tokens = self._tokens["train"]
        draw = random.Random(seed)
        size = self._training.batch_size
        drawn = 0
        while drawn < steps:
            order = draw.sample(range(len(tokens.queries)), len(tokens.queries))
            for batch in _bucketed(order, [len(ids) for ids in tokens.documents], size, draw):
                if drawn == steps:
                    return
                drawn += 1
                yield RetrievalBatch(
                    queries=self._pad([tokens.queries[i] for i in batch]),
                    documents=self._pad([tokens.documents[i] for i in batch]),
                )

    def loss(self, batch: RetrievalBatch) -> Tensor:
        """Multiple-negatives ranking loss (arXiv:1705.00652, section 4.4).

        Cross-entropy of each query's own document among all documents of the batch, over cosine
        similarities times ``similarity_scale``.
        """
        queries = functional.normalize(self._retriever.encoder(batch.queries), dim=-1)
        documents = functional.normalize(self._retriever.encoder(batch.documents), dim=-1)
        logits = queries @ documents.T * self._settings.similarity_scale
        return functional.cross_entropy(logits, torch.arange(len(logits), device=logits.device))

    @torch.inference_mode()
    def evaluate(self, split: Split) -> Evaluation:
        """Ranks every document of the split for every query of it, by cosine similarity."""
        tokens = self._tokens[split]
        similarities = (self._embed(tokens.queries) @ self._embed(tokens.documents).T).cpu()
        relevant = torch.eye(len(similarities), dtype=torch.bool)
        values = score_rankings(similarities, relevant)
        top = similarities.topk(min(_SHOWN, len(similarities)), dim=1).indices
        return Evaluation(self._settings.metric, values, top.tolist())

    def calibration_batches(self, seed: int) -> list[dict[str, Tensor]]:
        """Documents of the first training batches."""
        return [batch.documents for batch in self.training_batches(_CALIBRATION_BATCHES, seed)]

    def examples(self, split: Split, before: Evaluation, after: Evaluation) -> list[Example]:
        """The query that gained most, the one in the middle, and the one that lost most."""
        metric = before.metric
        gains = [new - old for old, new in zip(before.values[metric], after.values[metric], strict=True)]
        order = sorted(range(len(gains)), key=lambda i: gains[i])
        picks = {"largest gain": order[-1], "median": order[len(order) // 2], "largest loss": order[0]}
        pairs = getattr(self._data, split)

        def shown(evaluation: Evaluation, query: int) -> tuple[Shown, ...]:
            return tuple(Shown(pairs[i].document, i == query) for i in evaluation.outputs[query])

        return [
            Example(f"{title}: {metric} {gains[i]:+.3f}", pairs[i].query, shown(before, i), shown(after, i))
            for title, i in picks.items()
        ]

    def _tokenise(self, split: str) -> Tokens:
        pairs = getattr(self._data, split)
        retriever = self._retriever

        def ids(texts: list[str], limit: int | None) -> list[list[int]]:
            length = min(limit or retriever.max_length, retriever.max_length)
            encoded: list[list[int]] = retriever.tokenizer(texts, truncation=True, max_length=length)["input_ids"]
            return encoded

        return Tokens(
            queries=ids([retriever.query_prompt + pair.query for pair in pairs], self._settings.query_length),
            documents=ids(
                [retriever.document_prompt + pair.document for pair in pairs], self._settings.document_length
            ),
        )

    def _pad(self, texts: list[list[int]]) -> dict[str, Tensor]:
        """``input_ids`` and ``attention_mask``, both ``[len(texts), longest]``."""
        padded = self._retriever.tokenizer.pad({"input_ids": texts}, return_tensors="pt")
        return {name: padded[name].to(self._device) for name in ("input_ids", "attention_mask")}

    def _embed(self, texts: Sequence[list[int]]) -> Tensor:
        """Unit vectors ``[len(texts), dimension]``, computed in batches of like length."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        size = self._training.eval_batch_size
        chunks = [order[start : start + size] for start in range(0, len(order), size)]
        sorted_vectors = torch.cat([self._retriever.encoder(self._pad([texts[i] for i in chunk])) for chunk in chunks])
        vectors = torch.empty_like(sorted_vectors)
        vectors[order] = sorted_vectors
        return functional.normalize(vectors, dim=-1)


def score_rankings(scores: Tensor, relevant: Tensor) -> dict[str, list[float]]:
    """Every metric of `METRICS` for every query.

    Args:
        scores: any real scores, ``[queries, documents]``.
        relevant: which documents are right, boolean, of the same shape.

    Returns:
        Metric → one value a query. All NaN if any score is not finite: sorting would rank NaNs all the
        same, and a broken model get a score.
    """
    if not scores.isfinite().all():
        return {name: [math.nan] * len(scores) for name in METRICS}
    # torchmetrics takes a score of 0 or less for "not retrieved" in MRR and recall, though not in nDCG;
    # cosines may well be negative, so they are moved above 0, which changes no ranking.
    positive = scores - scores.min() + 1
    return {
        name: [float(metric(row, right)) for row, right in zip(positive, relevant, strict=True)]
        for name, metric in METRICS.items()
    }


def _bucketed(order: Sequence[int], lengths: Sequence[int], size: int, draw: random.Random) -> list[list[int]]:
    """Full batches of ``size`` indices in random order, each of texts of like length.

    The length that counts is the document's: documents are several times as long as queries.
    """
    batches = []
    for start in range(0, len(order), size * _BUCKET):
        bucket = sorted(order[start : start + size * _BUCKET], key=lambda i: lengths[i])
        batches += [bucket[i : i + size] for i in range(0, len(bucket) - size + 1, size)]
    draw.shuffle(batches)
    return batches
