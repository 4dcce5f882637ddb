"""What can go wrong, in words for the person who has to mend it.

RankSearchError           exit status 1
├── InputError            the input is wrong; exit status 2, nothing was written
├── SearchStopped         the search gave up; what was told so far is kept
│   └── OutOfService      something that every trial needs is gone, such as disk space
└── TrainingFailed        one fine-tune gave no usable score; the study records why, and goes on
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable


class RankSearchError(Exception):
    """Base of every error that this package raises on purpose."""


class SearchStopped(RankSearchError):
    """The search gave up before its planned number of trials."""


class OutOfService(SearchStopped):
    """Something that every trial needs is gone; when it is back, the same command goes on."""


FailureKind = Literal["error", "not finite", "out of memory", "time limit", "damaged file", "process died"]


class TrainingFailed(RankSearchError):
    """A fine-tune that gave no usable score.

    Args:
        reason: what the study records.
        kind: what sort of failure it is.
    """

    def __init__(self, reason: str, kind: FailureKind = "error") -> None:
        super().__init__(reason)
        self.kind: FailureKind = kind

    def __reduce__(self) -> tuple[type[TrainingFailed], tuple[str, FailureKind]]:
        """It may come from another process."""
        return type(self), (str(self), self.kind)


class InputError(RankSearchError):
    """Wrong input: one line that names file, field and value, and says how to mend it.

    Args:
        problem: what is wrong and how to mend it.
        field: dotted name of the field, such as ``training.steps``, or an option such as ``--rule``.
        file: the file (or option) that holds the field. Code that checks a field seldom knows the
            file; whoever does adds it with `in_file`.
    """

    def __init__(self, problem: str, *, field: str | None = None, file: str | None = None) -> None:
        super().__init__(problem)
        self.problem = " ".join(problem.split())
        self.field = field
        self.file = file

    def in_file(self, file: str) -> InputError:
        """The same error, said of ``file`` unless a file is named already."""
        return InputError(self.problem, field=self.field, file=self.file or file)

    def __str__(self) -> str:
        return printable(": ".join(part for part in (self.file, self.field, self.problem) if part))


_PASSWORD = re.compile(r"(:/{1,2}[^/@:\s]*:)[^@\s]+@")  # of a URL, also one that was taken for a path


def printable(text: str) -> str:
    """A text as one line without passwords: somebody's input may hold anything."""
    line = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    return _PASSWORD.sub(r"\1***@", line)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``did you mean 'steps'?``, or the list of known words when none is near."""
    words = sorted(known)
    near = get_close_matches(word, words, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(words) or 'none'}"
