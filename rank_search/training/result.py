"""What goes into a fine-tune and what comes out: plain data, free of torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from rank_search.ranks import RankMap
    from rank_search.tasks.base import Evaluation


class TrainingFailed(Exception):
    """A fine-tune that gave no usable score; the message is the reason that the study records."""


@dataclass(frozen=True)
class Job:
    """One rank map to fine-tune and evaluate.

    Attributes:
        rank_map: the map.
        seed: draws the fresh adapter, and its dropout.
        data_seed: draws the order of the batches. Jobs that share it see the same batches, which takes
            that noise out of comparisons between maps.
        settings: joint settings searched beside the ranks, by name; empty where none are.
    """

    rank_map: RankMap
    seed: int
    data_seed: int
    settings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned map.

    Attributes:
        evaluation: its results on the validation split.
        losses: training loss of each step.
        seconds: training and evaluation together, wall clock.
        save_adapter: writes the adapter as a folder that PEFT loads; None where nothing was trained.
    """

    evaluation: Evaluation
    losses: tuple[float, ...]
    seconds: float
    save_adapter: Callable[[Path], None] | None
