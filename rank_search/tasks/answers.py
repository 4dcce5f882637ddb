"""Scores of an answer: exact match and token-F1 as SQuAD v1.1 defines them.

The rules are those of the data set's evaluation script (Rajpurkar et al., 2016, arXiv:1606.05250,
section 6.1). Common libraries use the rules of v2.0, which differ for empty answers.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """Lower case, without ASCII punctuation, without the articles a, an, the; single spaces."""
    plain = text.lower().translate(_PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())


def exact_match(answer: str, golds: Sequence[str]) -> float:
    """1 if the `normalised` answer equals any `normalised` gold answer, else 0."""
    return float(any(normalised(answer) == normalised(gold) for gold in golds))


def token_f1(answer: str, golds: Sequence[str]) -> float:
    """F1 over the words of the answer, counted with repeats; the highest over the gold answers."""
    return max(_f1(answer, gold) for gold in golds)


def _f1(answer: str, gold: str) -> float:
    answer_words, gold_words = normalised(answer).split(), normalised(gold).split()
    common = sum((Counter(answer_words) & Counter(gold_words)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(answer_words), common / len(gold_words)
    return 2 * precision * recall / (precision + recall)
