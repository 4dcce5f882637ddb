"""Metrics of rankings and of classes.

Rankings are given as gains: of each document, in the order in which a query ranks them, how relevant it is; 0 is not
relevant. Documents below a metric's depth that are not relevant may be left out, as they change nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def ndcg(gains: Sequence[float], depth: int) -> float:
    """Normalised discounted cumulative gain: Σ gainᵢ / log₂(i + 1) of the first ``depth``, over that of the best order.

    The gain is taken as it is, as in trec_eval (Järvelin & Kekäläinen, ACM TOIS 2002), not as 2^gain − 1.

    Args:
        gains: of a ranking, with one above 0 at least.
        depth: documents that count.
    """
    return _dcg(gains[:depth]) / _dcg(sorted(gains, reverse=True)[:depth])


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))


def reciprocal_rank(gains: Sequence[float], depth: int) -> float:
    """One over the rank of the first relevant document; 0 if none is among the first ``depth``."""
    return next((1 / rank for rank, gain in enumerate(gains[:depth], start=1) if gain > 0), 0.0)


def recall(gains: Sequence[float], depth: int) -> float:
    """The part of the relevant documents, one at least, that is among the first ``depth``."""
    return sum(gain > 0 for gain in gains[:depth]) / sum(gain > 0 for gain in gains)


def macro_f1(predicted: Tensor, labels: Tensor, classes: int) -> float:
    """The mean over classes of F1; classes that are neither predicted nor right anywhere are left out.

    Args:
        predicted: class numbers, ``[examples]``, one at least.
        labels: the right ones, ``[examples]``.
        classes: how many there are.
    """
    right, given, true = _counts(predicted, labels, classes)
    met = given + true > 0
    return float((2 * right[met] / (given + true)[met]).mean())


def matthews_correlation(predicted: Tensor, labels: Tensor, classes: int) -> float:
    """Matthews' correlation coefficient of several classes (Gorodkin, 2004).

    0 where it is 0/0: all examples are of one class, or are predicted to be.

    Args:
        predicted: class numbers, ``[examples]``.
        labels: the right ones, ``[examples]``.
        classes: how many there are.
    """
    right, given, true = _counts(predicted, labels, classes)
    count = len(labels)
    covariance = float(count * right.sum() - given @ true)
    variances = float(count**2 - given @ given) * float(count**2 - true @ true)
    return covariance / math.sqrt(variances) if variances else 0.0


def _counts(predicted: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of each class: examples rightly predicted, predicted, and labelled; each float64, ``[classes]``."""
    right, given, true = (
        torch.bincount(numbers, minlength=classes).double()
        for numbers in (labels[predicted == labels], predicted, labels)
    )
    return right, given, true
