"""Whether rank matters in a study at all: the best uniform map against the smallest one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rank_search.analysis.evidence import Evidence
    from rank_search.core.space import Space


@dataclass(frozen=True)
class Slope:
    """What a larger uniform rank gains.

    Attributes:
        smallest: rank of the smallest uniform map.
        best: rank of the best one.
        delta: what the best one gains; 0 where it is the smallest.
        low: lower end of the 95 % interval.
        high: upper end.
        margin: the loss of score that counts as none.
    """

    smallest: int
    best: int
    delta: float
    low: float
    high: float
    margin: float

    @property
    def is_flat(self) -> bool:
        """Whether the best uniform map gains no more than the margin above the smallest one."""
        return self.delta <= self.margin

    @property
    def sentence(self) -> str:
        """Whether rank matters, for a reader."""
        if self.best == self.smallest:
            return f"Rank does not matter here: no uniform rank scores higher than rank {self.smallest} on validation."
        figures = f"{self.delta:+.4f} ({self.low:+.4f} to {self.high:+.4f})".replace("-", "−")
        gains = f"uniform rank {self.best} gains {figures} above uniform rank {self.smallest} on validation"
        if self.is_flat:
            return f"Rank does not matter here: {gains}, within the margin of {self.margin:.4f}."
        return f"Rank matters: {gains}; margin {self.margin:.4f}."


def slope(evidence: Evidence) -> Slope | None:
    """The slope of a study's uniform ladder; None where it has fewer than two trained uniform maps with scores."""
    uniform, best = evidence.uniform, evidence.best_uniform
    if len(uniform) < 2 or best is None:
        return None
    smallest = uniform[0]
    if best.number == smallest.number:
        return Slope(smallest.top_rank, best.top_rank, 0.0, 0.0, 0.0, evidence.margin)
    difference = evidence.searched.difference(best.number, smallest.number)
    if difference is None:
        return None
    return Slope(
        smallest.top_rank,
        best.top_rank,
        difference.delta,
        *difference.interval(),
        evidence.margin,
    )


def search_budget(evidence: Evidence, space: Space) -> int | None:
    """Parameters that a map may have at most to be worth a training; None for no bound.

    Where rank does not matter, fewer than the smallest uniform map has. There is no bound while uniform maps of the
    ladder are still to be trained, where rank matters, and where no map is smaller than the smallest uniform one.
    """
    ranks = {rank for rank in space.ladder if rank}
    if ranks - {trial.top_rank for trial in evidence.uniform} or 0 not in space.ladder:
        return None
    found = slope(evidence)
    if found is None or not found.is_flat:
        return None
    return evidence.uniform[0].trainable_parameters - 1
