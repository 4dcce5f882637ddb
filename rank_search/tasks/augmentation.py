"""Changes of training texts: words dropped at random, or a function of the user's."""

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
_STREAM = 1  # keeps these draws apart from those of the order of the batches


def load_augmentation(training: TrainingConfig) -> Augment | None:
    """The function that ``training.augmentation`` names; None for ``none``.

    A function given as ``module:function`` is looked for as Python looks for modules, in the current
    folder first.

    Raises:
        InputError: there is no such function, or it makes no text of a text.
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
    except Exception as error:  # whatever the user's own code may raise
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
    """Drops each word, with the white space after it, by chance; a text is never emptied."""
    words = re.findall(r"\s*\S+\s*", text)
    kept = [word for word in words if draw.random() >= probability]
    return "".join(kept or words[:1])


def augment_texts(augment: Augment, texts: Sequence[str], seed: int, batch: int) -> list[str]:
    """The texts of one batch, changed; the same for the same seed and batch.

    Raises:
        TypeError: the function returned something else than a text.
    """
    draw = Random(f"{seed} {_STREAM} {batch}")
    changed = [augment(text, draw) for text in texts]
    if not all(isinstance(text, str) for text in changed):
        raise TypeError("the function of training.augmentation returned something else than a text")
    return changed
