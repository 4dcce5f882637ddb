"""What a model scored on one split, example by example."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Split = Literal["validation", "test"]


@dataclass(frozen=True)
class Evaluation:
    """One model's results on one split, example by example.

    Attributes:
        metric: the name of the metric that is the score.
        values: metric name → its value for each example, all in the order of the split.
        outputs: what the model gave for each example, for `Task.examples`; empty unless asked for.
        selection: how many of the last examples are for the choice alone. They count neither in the score nor in the
            means, so that a map is not chosen on examples that it was searched on.
    """

    metric: str
    values: Mapping[str, Sequence[float]]
    outputs: Sequence[Any] = ()
    selection: int = 0

    @property
    def searched(self) -> dict[str, Sequence[float]]:
        """Metric name → its value for each example of the score."""
        return {name: values[: len(values) - self.selection] for name, values in self.values.items()}

    @property
    def selected(self) -> dict[str, Sequence[float]]:
        """Metric name → its value for each example that is for the choice; empty where none are."""
        return {name: values[-self.selection :] for name, values in self.values.items()} if self.selection else {}

    @property
    def score(self) -> float:
        """Mean of the metric over the examples."""
        return statistics.fmean(self.searched[self.metric])

    @property
    def standard_error(self) -> float:
        """Standard error of the score over the examples (one training seed)."""
        values = self.searched[self.metric]
        return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan

    @property
    def means(self) -> dict[str, float]:
        """Metric name → its mean over the examples."""
        return {name: statistics.fmean(values) for name, values in self.searched.items()}
