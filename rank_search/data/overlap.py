"""Overlap of the parts of a data set, by their texts; labels and answers do not count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rank_search.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PAIRS = (("validation", "train"), ("test", "train"), ("test", "validation"))


@dataclass(frozen=True)
class Overlap:
    """How many texts of a part are in another part too.

    Attributes:
        part: ``validation`` or ``test``.
        other: the part that holds them too.
        shared: how many of the part's texts the other part holds, but for case and white space.
        total: how many texts the part has.
    """

    part: str
    other: str
    shared: int
    total: int

    def __str__(self) -> str:
        return f"{self.shared:,} of {self.total:,} texts of {self.part} are in {self.other} too"


def overlaps(texts: Mapping[str, Sequence[str]]) -> list[Overlap]:
    """The overlap of every pair of parts that share a text."""
    same = {part: [" ".join(text.casefold().split()) for text in found] for part, found in texts.items()}
    pairs = [(part, other) for part, other in _PAIRS if part in same and other in same]
    found = []
    for part, other in pairs:
        known = set(same[other])
        found.append(Overlap(part, other, sum(text in known for text in same[part]), len(same[part])))
    return [overlap for overlap in found if overlap.shared]


def check_overlaps(texts: Mapping[str, Sequence[str]]) -> None:
    """Refuses a part if most of its texts are in another part too.

    Raises:
        InputError: naming the part.
    """
    for overlap in overlaps(texts):
        if 2 * overlap.shared > overlap.total:
            raise InputError(
                f"{overlap}, and parts must not overlap; name other data", field=f"task.data.{overlap.part}"
            )
