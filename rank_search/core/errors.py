"""The exceptions that this package raises, with messages that say how to fix the problem.

RankSearchError           exit status 1
├── InputError            the input is wrong; exit status 2, nothing is written
├── SearchStopped         the search stopped early; everything recorded so far is kept
│   └── OutOfService      a resource that every trial needs is unavailable, such as disk space
└── TrainingFailed        one fine-tune gave no usable score; the study records why and continues
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from reprlib import Repr
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable


class RankSearchError(Exception):
    """Base of every error that this package raises on purpose."""


class SearchStopped(RankSearchError):
    """The search stopped before its planned number of trials."""


class OutOfService(SearchStopped):
    """A resource that every trial needs is unavailable; when it is back, the same command continues the study."""


FailureKind = Literal["error", "not finite", "out of memory", "time limit", "damaged file", "process died"]


class TrainingFailed(RankSearchError):
    """A fine-tune that gave no usable score.

    Args:
        reason: what the study records.
        kind: the category of the failure.
    """

    def __init__(self, reason: str, kind: FailureKind = "error") -> None:
        super().__init__(reason)
        self.kind: FailureKind = kind

    def __reduce__(self) -> tuple[type[TrainingFailed], tuple[str, FailureKind]]:
        """Keeps ``kind`` when the exception is sent between processes."""
        return type(self), (str(self), self.kind)


class InputError(RankSearchError):
    """Wrong input: one line that names file, field and value, and says how to fix it.

    Args:
        problem: what is wrong and how to fix it.
        field: dotted name of the field, such as ``training.steps``, or an option such as ``--rule``.
        file: the file (or option) that holds the field. Code that checks a field seldom knows the
            file; a caller that knows it adds it with `in_file`.
    """

    def __init__(self, problem: str, *, field: str | None = None, file: str | None = None) -> None:
        super().__init__(problem)
        self.problem = " ".join(problem.split())
        self.field = field
        self.file = file

    def in_file(self, file: str) -> InputError:
        """The same error with ``file`` added, unless it names a file already."""
        return InputError(self.problem, field=self.field, file=self.file or file)

    def __str__(self) -> str:
        return printable(": ".join(part for part in (self.file, self.field, self.problem) if part))


_BOUNDED = Repr()
_BOUNDED.maxstring = _BOUNDED.maxother = 120
_BOUNDED.maxlong = 60
_BOUNDED.maxlist = _BOUNDED.maxtuple = _BOUNDED.maxdict = 8
_LONGEST_LINE = 200
# In a URL, also where the URL was read as a path: before the host, or among its options.
_PASSWORD = re.compile(r"(:/{1,2}[^/@:\s]*:)\S+@|(?i:(\bpassword=))[^&\s'\"]+")


def printable(text: str) -> str:
    """A text as one printable line, with passwords masked and control characters escaped."""
    line = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    return _PASSWORD.sub(lambda found: f"{found[1]}***@" if found[1] else f"{found[2]}***", line)


def echo(value: object) -> str:
    """A value as a message shows it: its ``repr``, cut where it is long."""
    return _BOUNDED.repr(value)


def first_line(error: Exception) -> str:
    """An exception's type, and the first line of its message, cut where it is long."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    name = type(error).__name__
    return f"{name}: {line[:_LONGEST_LINE]}" if line else name


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``did you mean 'steps'?``, or the list of known words if none is similar."""
    words = sorted(known)
    plain = {word.strip().casefold(): word for word in reversed(words)}
    similar = get_close_matches(word.strip().casefold(), plain, n=1, cutoff=0.6)
    return f"did you mean {plain[similar[0]]!r}?" if similar else f"known: {', '.join(words) or 'none'}"
