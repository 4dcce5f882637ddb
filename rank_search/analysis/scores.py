"""What maps scored example by example, and their differences in pairs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rank_search.analysis.paired import merged, paired_difference, pooled_noise
from rank_search.core.batch_order import fit_map_means

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rank_search.analysis.paired import PairedDifference, SeedNoise

_MOST_POOLED = 12  # maps with repeats whose pairs show the noise of seeds


@dataclass(frozen=True)
class ExampleScores:
    """The scores of maps for each example of one part of the data.

    A seed is an order of batches: the maps that are trained on it share it, and so are compared on it.

    Attributes:
        trainings: number of a map → order of batches → number of the trial.
        values: number of a trial → its score for each example; empty where that is not on record.
        half: 0 or 1 for every other example alone; None for all of them.
        known_noise: what is known of the noise of seeds beside these scores.
    """

    trainings: Mapping[int, Mapping[int, int]]
    values: Callable[[int], Sequence[float]]
    half: int | None = None
    known_noise: SeedNoise | None = None

    def of_trial(self, trial: int) -> np.ndarray:
        """The scores of one training, ``[examples]``."""
        scores = np.asarray(self.values(trial), dtype=float)
        return scores if self.half is None else scores[self.half :: 2]

    def halves(self) -> tuple[ExampleScores, ExampleScores]:
        """The scores for every other example, and for the examples between them."""
        return replace(self, half=0), replace(self, half=1)

    def pairs(self, first: int, second: int) -> np.ndarray:
        """First map minus second, ``[seeds, examples]``, on the seeds that both are on record for; perhaps none."""
        ours, theirs = self.trainings.get(first, {}), self.trainings.get(second, {})
        scores = [(self.of_trial(ours[order]), self.of_trial(theirs[order])) for order in sorted(ours.keys() & theirs)]
        both = [mine - other for mine, other in scores if len(mine) and len(mine) == len(other)]
        return np.array(both) if both and len({len(values) for values in both}) == 1 else np.empty((0, 0))

    def difference(self, first: int, second: int) -> PairedDifference | None:
        """The mean difference of two maps; None where they have no common seed on record."""
        pairs = self.pairs(first, second)
        return paired_difference(pairs, self.noise) if pairs.size else None  # type: ignore[arg-type]

    @cached_property
    def noise(self) -> SeedNoise | None:
        """What one seed adds to a difference, over the maps that were trained on several."""
        repeated = sorted(
            (number for number, orders in self.trainings.items() if len(orders) > 1),
            key=lambda number: -len(self.trainings[number]),
        )[:_MOST_POOLED]
        pairs = [self.pairs(first, second) for first, second in combinations(repeated, 2)]
        trainings = sum(len(self.trainings[number]) - 1 for number in repeated)
        orders = {order for number in repeated for order in self.trainings[number]}
        pooled = pooled_noise([found for found in pairs if found.size], trainings - (len(orders) - 1))  # type: ignore[misc]
        return merged(pooled, self.known_noise)

    def means(self) -> dict[int, float]:
        """Number of each map on record → its mean score, as on order 0."""
        rows = [
            {"name": str(number), "batch_order": order, "score": scores.mean()}
            for number, orders in self.trainings.items()
            for order, trial in orders.items()
            if len(scores := self.of_trial(trial))
        ]
        if not rows:
            return {}
        return {int(name): mean for name, mean in fit_map_means(pd.DataFrame(rows)).mean.items()}
