"""Augmentation of training texts: random word dropout, or a function that the user names."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from rank_search.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rank_search.config import TrainingConfig

Augment = Callable[[str, Random], str]
_STREAM = 1  # part of the seed, so that these draws are independent of the order of the batches


def load_augmentation(training: TrainingConfig) -> Augment | None:
    """Loads the function that ``training.augmentation`` names; None for ``none``.

    ``module:function`` is imported as Python imports modules; the current folder is searched first.

    Raises:
        InputError: there is no such function, or it does not return a text.
    """
    if training.augmentation == "none":
        return None
    if training.augmentation == "token-dropout":
        return partial(drop_words, training.token_dropout)
    module, _, name = training.augmentation.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        function: Augment = getattr(import_module(module), name)
        changed = function("a text to try it on", Random(0))
    except Exception as error:  # the user's code may raise any exception
        raise InputError(
            f"{training.augmentation!r}: {type(error).__name__}: {error}; name a function as module:function",
            field="training.augmentation",
        ) from error
    if not isinstance(changed, str):
        raise InputError(
            f"{training.augmentation!r} returns {type(changed).__name__}; it must return a text",
            field="training.augmentation",
        )
    return function


def drop_words(probability: float, text: str, draw: Random) -> str:
    """Drops each word with the given probability, and keeps at least one word of a text."""
    words = re.findall(r"\s*\S+\s*", text)
    kept = [word for word in words if draw.random() >= probability]
    return "".join(kept or words[:1])


def augment_texts(augment: Augment, texts: Sequence[str], seed: int, batch: int) -> list[str]:
    """Augments the texts of one batch; the result depends only on the texts, the seed and the batch number.

    Raises:
        TypeError: the function returned something other than a text.
    """
    draw = Random(f"{seed} {_STREAM} {batch}")
    changed = [augment(text, draw) for text in texts]
    if not all(isinstance(text, str) for text in changed):
        raise TypeError("the function of training.augmentation returned something other than a text")
    return changed
