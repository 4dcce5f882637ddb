"""Texts to token ids, and token ids to batches with little padding."""

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

_BUCKET = 32  # batches that are sorted by length together, at most
_BUCKETS = 4  # into which a pass is parted, at least, so that passes differ
CALIBRATION_BATCHES = 4


def check_batch_size(training: TrainingConfig, examples: int) -> None:
    """Checks that a batch can be filled.

    Raises:
        InputError: it is larger than the training split.
    """
    if training.batch_size > examples:
        raise InputError(
            f"{training.batch_size} is more than the {examples} training examples; lower it",
            field="training.batch_size",
        )


def tokenise(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], limit: int) -> tuple[list[list[int]], int]:
    """Token ids of texts, special tokens included, none longer than ``limit``; and how many had to be cut."""
    encoded: list[list[int]] = tokenizer(list(texts))["input_ids"]
    long = [i for i, ids in enumerate(encoded) if len(ids) > limit]
    if long:
        shorter = tokenizer([texts[i] for i in long], truncation=True, max_length=limit)["input_ids"]
        for i, ids in zip(long, shorter, strict=True):
            encoded[i] = ids
    return encoded, len(long)


def training_indices(lengths: Sequence[Any], size: int, steps: int, seed: int) -> Iterator[list[int]]:
    """Shuffled batches of indices, pass after pass; texts of like length stand together.

    Args:
        lengths: of each example, what decides its cost; several lengths in a tuple, the longest text's first.
        size: examples a batch.
        steps: how many batches.
        seed: draws the order.
    """
    draw = random.Random(seed)
    drawn = 0
    while drawn < steps:
        order = draw.sample(range(len(lengths)), len(lengths))
        for batch in _bucketed(order, lengths, size, draw)[: steps - drawn]:
            drawn += 1
            yield batch


def _bucketed(order: Sequence[int], lengths: Sequence[Any], size: int, draw: random.Random) -> list[list[int]]:
    """Full batches of ``size`` indices in random order, each of texts of like length."""
    batches = []
    together = size * max(1, min(_BUCKET, len(order) // (size * _BUCKETS)))
    for start in range(0, len(order), together):
        bucket = sorted(order[start : start + together], key=lambda i: lengths[i])
        batches += [bucket[i : i + size] for i in range(0, len(bucket) - size + 1, size)]
    draw.shuffle(batches)
    return batches


def by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """All indices in batches of like length, the short ones first."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    return [order[start : start + size] for start in range(0, len(order), size)]


def in_batches(
    lengths: Sequence[int], size: int, compute: Callable[[list[int]], Sequence[Any]], copies: int = 1
) -> list[Any]:
    """Computes something for each example, in batches of like length, and returns it in the examples' order.

    Args:
        lengths: of each example.
        size: rows that go into the model together.
        compute: called with the examples of a batch.
        copies: rows of one example, one for each map that stands in the model.
    """
    results: list[Any] = [None] * len(lengths)
    for batch in by_length(lengths, max(1, size // copies)):
        for i, result in zip(batch, compute(batch), strict=True):
            results[i] = result
    return results


def padded(texts: Sequence[Sequence[int]], value: int, *, left: bool = False) -> Tensor:
    """Sequences of numbers as one tensor ``[len(texts), longest]``, filled up with ``value``."""
    longest = max(len(ids) for ids in texts)
    rows = [
        [value] * (longest - len(ids)) + [*ids] if left else [*ids] + [value] * (longest - len(ids)) for ids in texts
    ]
    return torch.tensor(rows)


def repeated(inputs: Mapping[str, Tensor], copies: int) -> dict[str, Tensor]:
    """The same rows once for each map that stands in the model, one map's after another's."""
    return {name: rows.repeat(copies, *[1] * (rows.ndim - 1)) for name, rows in inputs.items()}


def by_map(rows: Tensor, copies: int) -> Tensor:
    """``[copies · batch, …]`` as ``[copies, batch, …]``."""
    return rows.view(copies, -1, *rows.shape[1:])


def model_inputs(
    texts: Sequence[Sequence[int]], pad_token: int, device: torch.device, *, left: bool = False
) -> dict[str, Tensor]:
    """``input_ids`` and ``attention_mask``, both ``[len(texts), longest]``."""
    return {
        "input_ids": padded(texts, pad_token, left=left).to(device),
        "attention_mask": padded([[1] * len(ids) for ids in texts], 0, left=left).to(device),
    }
