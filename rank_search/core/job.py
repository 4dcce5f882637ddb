"""What goes into a fine-tune and what comes out: plain data, free of torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rank_search.core.errors import TrainingFailed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rank_search.core.candidate import Candidate, Recipe
    from rank_search.core.evaluation import Evaluation, Split
    from rank_search.core.ranks import RankMap


@dataclass(frozen=True)
class Job:
    """One candidate to train and evaluate.

    Attributes:
        candidate: what to train.
        seed: draws the fresh adapter, and its dropout.
        data_seed: draws the order of the batches. Jobs that share it see the same batches, which takes that noise out
            of comparisons between maps.
        number: of its trial.
        source: folder of the adapter that is truncated.
        split: what it is scored on at the end.
        large: what is trained first, to be truncated, where there is no such adapter on this seed and these batches.
    """

    candidate: Candidate
    seed: int
    data_seed: int
    number: int = 0
    source: Path | None = None
    split: Split = "validation"
    large: Candidate | None = None

    @property
    def rank_map(self) -> RankMap:
        """The candidate's map."""
        return self.candidate.rank_map

    @property
    def settings(self) -> Mapping[str, float]:
        """The candidate's settings."""
        return self.candidate.settings

    @property
    def recipe(self) -> Recipe:
        """The candidate's recipe."""
        return self.candidate.recipe

    def at(self, rank_map: RankMap, settings: Mapping[str, float] | None = None) -> Job:
        """The same job at other ranks, such as those that its recipe sets, and perhaps other settings."""
        settings = self.settings if settings is None else settings
        return replace(self, candidate=replace(self.candidate, rank_map=rank_map, settings=settings))


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned map.

    Attributes:
        evaluation: its results on the job's split.
        losses: training loss of each step.
        seconds: its share of the wall clock: of what is done for a pack at once, each map bears an equal part.
        save_adapter: writes the adapter as a folder that PEFT loads; None where nothing was trained.
        rank_map: the ranks that its recipe set; None where they are the job's.
    """

    evaluation: Evaluation
    losses: tuple[float, ...]
    seconds: float
    save_adapter: Callable[[Path], None] | None
    rank_map: RankMap | None = None


@dataclass(frozen=True)
class Died:
    """A map whose process died while it was trained; it may have been its memory, or the end of a machine."""

    def __str__(self) -> str:
        return "its process died"


Outcome = FineTuned | TrainingFailed | Died


# Hears how far a training is: steps done, and the mean of the last loss over the maps that train together.
OnStep = Callable[[int, float], None]


def no_callback(*_arguments: Any) -> None:
    """Does nothing: for work whose progress is not reported."""
