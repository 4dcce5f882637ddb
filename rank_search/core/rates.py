"""Learning rates by the size of a map: large maps want lower ones (arXiv:2602.04998)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class LearningRates:
    """The learning rates of a study's maps.

    Attributes:
        points: (trainable parameters, learning rate) of the maps that they were tuned on, by ascending parameters.
        head: of the head, if the task has one that was tuned.
        notes: what the user should know of them, and of the number of steps, in sentences.
    """

    points: tuple[tuple[int, float], ...]
    head: float | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)

    def at(self, parameters: int) -> float:
        """The rate of a map of this size: on a straight line between the points, both axes logarithmic."""
        sizes = [math.log(size) for size, _ in self.points]
        rates = [math.log(rate) for _, rate in self.points]
        found = math.exp(np.interp(math.log(max(1, parameters)), sizes, rates))
        return float(f"{found:.6g}")  # the rate itself at the points, and none of more digits than mean anything

    def settings(self, parameters: int) -> dict[str, float]:
        """The settings of a map of this size."""
        head = {} if self.head is None else {"head_learning_rate": self.head}
        return {"learning_rate": self.at(parameters), **head}
