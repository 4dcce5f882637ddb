"""What the trainer, the search and the report need of a task."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor, nn

Split = Literal["validation", "test"]


@dataclass(frozen=True)
class Evaluation:
    """One model's results on one split, example by example.

    Attributes:
        metric: the name of the metric that is the score.
        values: metric name → its value for each example, all in the order of the split.
        outputs: what the model gave for each example, for the eye: for retrieval the positions of the
            first documents. Empty when nobody asked for it.
    """

    metric: str
    values: Mapping[str, Sequence[float]]
    outputs: Sequence[Sequence[int]] = ()

    @property
    def score(self) -> float:
        """Mean of the metric over the examples."""
        return statistics.fmean(self.values[self.metric])

    @property
    def standard_error(self) -> float:
        """Standard error of the score over the examples (one training seed)."""
        values = self.values[self.metric]
        return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan

    @property
    def means(self) -> dict[str, float]:
        """Metric name → its mean over the examples."""
        return {name: statistics.fmean(values) for name, values in self.values.items()}


@dataclass(frozen=True)
class Shown:
    """One line of an example: a text, and whether it is the right one."""

    text: str
    relevant: bool


@dataclass(frozen=True)
class Example:
    """One input with the model's answers before and after fine-tuning, for the report."""

    title: str
    query: str
    before: tuple[Shown, ...]
    after: tuple[Shown, ...]


class Task(Protocol):
    """Data → batches, loss, score. Holds the loaded base model; adapters are put into it by others.

    Ownership: whoever trains puts adapters into `backbone`, and takes them out again.
    """

    @property
    def backbone(self) -> nn.Module:
        """The frozen transformer whose linear layers may be adapted."""

    @property
    def fingerprint(self) -> str:
        """Names the base model's weights."""

    def training_batches(self, steps: int, seed: int) -> Iterator[Any]:
        """``steps`` batches, the same for the same seed whatever adapter is trained on them."""

    def loss(self, batch: Any) -> Tensor:
        """Mean loss of a batch under the model as it stands, with gradient; shape ``[]``."""

    def evaluate(self, split: Split) -> Evaluation:
        """Scores the model as it stands, without gradient."""

    def calibration_batches(self, seed: int) -> Sequence[dict[str, Tensor]]:
        """A few batches of backbone inputs, for initialisations that look at activations."""

    def examples(self, split: Split, before: Evaluation, after: Evaluation) -> list[Example]:
        """A few examples of the split with both models' answers."""
