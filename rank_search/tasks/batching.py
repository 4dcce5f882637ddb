"""Turns texts into token ids, and token ids into batches with little padding."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import torch

from rank_search.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from rank_search.config import TrainingConfig

_MAX_BATCHES_PER_BUCKET = 32  # batches that are sorted by length together
_MIN_BUCKETS = 4  # buckets per epoch, so that the batches of two epochs differ
CALIBRATION_BATCHES = 4


def check_batch_size(training: TrainingConfig, examples: int) -> None:
    """Checks that the training split fills at least one batch.

    Raises:
        InputError: the batch size is larger than the training split.
    """
    if training.batch_size > examples:
        raise InputError(
            f"{training.batch_size} is more than the {examples} training examples; lower it",
            field="training.batch_size",
        )


def tokenise(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], limit: int) -> tuple[list[list[int]], int]:
    """Tokenises texts, with special tokens, and truncates them to ``limit`` tokens.

    Returns:
        Token ids of each text, and the number of texts that were truncated.
    """
    encoded: list[list[int]] = tokenizer(list(texts))["input_ids"]
    long = [i for i, ids in enumerate(encoded) if len(ids) > limit]
    if long:
        shorter = tokenizer([texts[i] for i in long], truncation=True, max_length=limit)["input_ids"]
        for i, ids in zip(long, shorter, strict=True):
            encoded[i] = ids
    return encoded, len(long)


def training_indices(lengths: Sequence[Any], size: int, steps: int, seed: int) -> Iterator[list[int]]:
    """Yields shuffled batches of indices, epoch after epoch; a batch holds texts of similar length.

    Args:
        lengths: length of each example, or a tuple of the lengths of its texts, most important first.
        size: examples per batch.
        steps: number of batches.
        seed: seed of the order.
    """
    draw = random.Random(seed)
    drawn = 0
    while drawn < steps:
        order = draw.sample(range(len(lengths)), len(lengths))
        for batch in _bucketed(order, lengths, size, draw)[: steps - drawn]:
            drawn += 1
            yield batch


def _bucketed(order: Sequence[int], lengths: Sequence[Any], size: int, draw: random.Random) -> list[list[int]]:
    """Full batches of ``size`` indices in random order; a batch holds texts of similar length."""
    batches = []
    bucket_size = size * max(1, min(_MAX_BATCHES_PER_BUCKET, len(order) // (size * _MIN_BUCKETS)))
    for start in range(0, len(order), bucket_size):
        bucket = sorted(order[start : start + bucket_size], key=lambda i: lengths[i])
        batches += [bucket[i : i + size] for i in range(0, len(bucket) - size + 1, size)]
    draw.shuffle(batches)
    return batches


def by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Batches of all indices, sorted by length, the shortest first."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    return [order[start : start + size] for start in range(0, len(order), size)]


def in_batches(
    lengths: Sequence[int], size: int, compute: Callable[[list[int]], Sequence[Any]], copies: int = 1
) -> list[Any]:
    """Applies a function to all examples, in batches of similar length; results are in the order of the examples.

    Args:
        lengths: length of each example.
        size: maximum number of rows that go into the model together.
        compute: called with the indices of a batch; returns one result per index.
        copies: rows per example: one for each adapter in the model.
    """
    results: list[Any] = [None] * len(lengths)
    for batch in by_length(lengths, max(1, size // copies)):
        for i, result in zip(batch, compute(batch), strict=True):
            results[i] = result
    return results


def padded(texts: Sequence[Sequence[int]], value: int, *, left: bool = False) -> Tensor:
    """Sequences of numbers as one tensor ``[len(texts), longest]``, padded with ``value``."""
    longest = max(len(ids) for ids in texts)
    rows = [
        [value] * (longest - len(ids)) + [*ids] if left else [*ids] + [value] * (longest - len(ids)) for ids in texts
    ]
    return torch.tensor(rows)


def repeat_copies(inputs: Mapping[str, Tensor], copies: int) -> dict[str, Tensor]:
    """Repeats a batch once per adapter: ``[batch, …]`` becomes ``[copies · batch, …]``."""
    return {name: rows.repeat(copies, *[1] * (rows.ndim - 1)) for name, rows in inputs.items()}


def split_copies(rows: Tensor, copies: int) -> Tensor:
    """Undoes `repeat_copies`: ``[copies · batch, …]`` becomes ``[copies, batch, …]``."""
    return rows.view(copies, -1, *rows.shape[1:])


def model_inputs(
    texts: Sequence[Sequence[int]], pad_token: int, device: torch.device, *, left: bool = False
) -> dict[str, Tensor]:
    """``input_ids`` and ``attention_mask``, both ``[len(texts), longest]``."""
    return {
        "input_ids": padded(texts, pad_token, left=left).to(device),
        "attention_mask": padded([[1] * len(ids) for ids in texts], 0, left=left).to(device),
    }
