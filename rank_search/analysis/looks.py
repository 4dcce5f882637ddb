"""When a verdict looks at its fresh seeds, and how wide its intervals are for looking more than once.

Each look may end the verdict, so each spends a part of the error that is allowed altogether: half of what is left
(alpha spending; Lan & DeMets, Biometrika 1983, doi:10.1093/biomet/70.3.659). By Bonferroni's inequality all looks
together err no more often than 5 %, however many there come to be and wherever they stop.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ALPHA = 0.05
_FIRST = (3, 5)  # seeds of the first looks; then twice as many each time


def looks(most: int) -> list[int]:
    """Numbers of seeds after which a verdict looks, if it may train so many."""
    planned = [seeds for seeds in _until(most) if seeds <= most]
    return planned if most == 0 or planned[-1:] == [most] else [*planned, most]


def level(seeds: int) -> float:
    """The level of the intervals of a look at so many seeds."""
    place = sum(1 for look in _until(seeds) if look < seeds)
    spent: float = ALPHA * 0.5 ** (place + 1)
    return 1 - spent


def _until(seeds: int) -> Iterator[int]:
    """Looks up to the first one at so many seeds or more."""
    yield from (look for look in _FIRST if look <= seeds)
    for doublings in count(1):
        look = _FIRST[-1] * 2**doublings
        if look > seeds:
            return
        yield look
