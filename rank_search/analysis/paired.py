"""The difference of two maps, in pairs of the same seed and the same example: what every comparison rests on.

Two maps that are trained on the same batches and scored on the same examples differ by far less than the standard
error of either score says, since what an example or a seed adds to both cancels out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtr, stdtrit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

LEVEL = 0.95  # of an interval that people see

# Where no map was trained twice, what a seed adds is taken from other studies: on the demo and on 150 intents it has a
# standard deviation of 0.02 to 0.04 of that of the examples' differences. It counts as much as so many degrees of
# freedom would.
_ASSUMED_RATIO = 0.04
_ASSUMED_FREEDOM = 4.0
_MOST_POOLED = 12.0  # degrees of freedom that the noise of other maps counts for at most, since maps differ in theirs
_MOST_SEEDS, _MOST_EXAMPLES = 1000, 1_000_000  # above which the number that is needed is not worth saying


@dataclass(frozen=True)
class SeedNoise:
    """What one seed adds to the difference of two trainings.

    Attributes:
        variance: of the difference's mean, beyond what the examples add.
        freedom: degrees of freedom that it rests on.
    """

    variance: float
    freedom: float


@dataclass(frozen=True)
class PairedDifference:
    """The mean difference of the scores of two maps, with what is known of its error.

    Seeds and examples are two crossed factors: difference = mean + seed + example + rest, each drawn anew by another
    study. The variance of the mean is ``of_seed / seeds + of_example / examples + of_rest / (seeds · examples)``.

    Attributes:
        delta: first map's mean minus the second's.
        seeds: common seeds.
        examples: common examples.
        of_seed: variance that seeds add.
        of_example: variance that examples add; with a single seed the rest counts as theirs.
        of_rest: variance beside these.
        freedom: degrees of freedom of the whole variance, by Satterthwaite's rule.
    """

    delta: float
    seeds: int
    examples: int
    of_seed: float
    of_example: float
    of_rest: float
    freedom: float

    @property
    def se(self) -> float:
        """Standard error of the mean difference."""
        return self._se(self.seeds, self.examples)

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """The interval of this level, by Student's t; without end where there is a single pair of scores."""
        if not math.isfinite(self.of_seed):
            return -math.inf, math.inf
        half = self.se * _quantile(self.freedom, level)
        return self.delta - half, self.delta + half

    def probability_below(self, bound: float) -> float:
        """How likely the true difference is below a bound, by the same distribution as the interval."""
        if not math.isfinite(self.of_seed):
            return 0.5
        if self.se == 0:
            return float(self.delta < bound)
        return float(stdtr(self.freedom, (bound - self.delta) / self.se))

    def seeds_needed(self, bound: float, level_at: Callable[[int], float] = lambda _seeds: LEVEL) -> int | None:
        """Seeds with which the interval would no longer hold a bound, if the difference stays as it is.

        None where no number of seeds would do on these examples.

        Args:
            bound: of the difference.
            level_at: the level of the interval with so many seeds.
        """
        for seeds in range(self.seeds + 1, _MOST_SEEDS + 1):
            if abs(self.delta - bound) > self.half_width(seeds, self.examples, level_at(seeds)):
                return seeds
        return None

    def examples_needed(self, bound: float, level: float = LEVEL) -> int | None:
        """Examples with which the interval would no longer hold a bound, with these seeds.

        None where no number up to a million would do.
        """
        gap = abs(self.delta - bound) / _quantile(math.inf, level)
        left = gap**2 - self.of_seed / self.seeds
        if not left > 0:
            return None
        needed = math.ceil((self.of_example + self.of_rest / self.seeds) / left)
        return needed if needed <= _MOST_EXAMPLES else None

    def half_width(self, seeds: int, examples: int, level: float = LEVEL) -> float:
        """Half of the interval's width that another number of seeds and examples would give."""
        return self._se(seeds, examples) * _quantile(max(self.freedom, seeds - 1.0), level)

    def _se(self, seeds: int, examples: int) -> float:
        variance = self.of_seed / seeds + self.of_example / examples + self.of_rest / (seeds * examples)
        return math.sqrt(variance)


def paired_difference(differences: Sequence[Sequence[float]], noise: SeedNoise | None = None) -> PairedDifference:
    """The mean difference of two maps over common seeds and examples.

    Its variance is that of two crossed factors (analysis of variance). A few seeds say little of their own variance:
    it is averaged with that of other maps' seeds, each weighted by its degrees of freedom (Smyth, 2004,
    doi:10.2202/1544-6115.1027).

    Args:
        differences: ``[seeds, examples]``, first map minus second; at least one of each.
        noise: what seeds add in other comparisons of the same study, if that is known.
    """
    values = np.asarray(differences, dtype=float)
    seeds, examples = values.shape
    if values.size == 1:
        return PairedDifference(float(values.mean()), 1, 1, math.inf, math.inf, math.inf, 1.0)
    of_means = float(values.mean(axis=0).var(ddof=1)) if examples > 1 else 0.0
    raw, rest = _seed_variance(values) if seeds > 1 else (0.0, 0.0)
    if noise is None and seeds == 1:
        noise = SeedNoise((_ASSUMED_RATIO**2) * of_means, _ASSUMED_FREEDOM)
    pooled = min(noise.freedom, _MOST_POOLED) if noise else 0.0
    freedom = pooled + seeds - 1
    of_seed = max(0.0, ((noise.variance * pooled if noise else 0.0) + (seeds - 1) * raw) / freedom)
    of_rest = min(rest, of_means * seeds)
    parts = [(of_seed + rest / examples) / seeds, of_means / examples]
    whole = of_seed / seeds + of_means / examples
    spread = parts[0] ** 2 / freedom + (parts[1] ** 2 / (examples - 1) if examples > 1 else 0.0)
    return PairedDifference(
        delta=float(values.mean()),
        seeds=seeds,
        examples=examples,
        of_seed=of_seed,
        of_example=of_means - of_rest / seeds,
        of_rest=of_rest,
        freedom=max(1.0, whole**2 / spread) if spread > 0 else float(freedom),
    )


def pooled_noise(comparisons: Iterable[Sequence[Sequence[float]]], freedom: float) -> SeedNoise | None:
    """What one seed adds to a difference, over several comparisons; None where none has two seeds.

    Args:
        comparisons: differences ``[seeds, examples]`` of pairs of maps.
        freedom: degrees of freedom that these have together: fewer than the sum over pairs, which share maps.
    """
    repeated = [np.asarray(values, dtype=float) for values in comparisons if len(values) > 1]
    if not repeated or freedom <= 0:
        return None
    weights = [len(values) - 1 for values in repeated]
    variances = [_seed_variance(values)[0] for values in repeated]
    return SeedNoise(max(0.0, float(np.average(variances, weights=weights))), freedom)


def merged(*found: SeedNoise | None) -> SeedNoise | None:
    """What several sources say together of what one seed adds; None where none says anything."""
    known = [noise for noise in found if noise is not None]
    freedom = sum(noise.freedom for noise in known)
    if not known:
        return None
    return SeedNoise(sum(noise.variance * noise.freedom for noise in known) / freedom, freedom)


def _seed_variance(values: np.ndarray) -> tuple[float, float]:
    """What seeds add to the variance of a difference, and the rest's variance; the first may come out negative.

    Args:
        values: ``[seeds, examples]``, with two seeds or more.
    """
    seeds, examples = values.shape
    of_seed = values.mean(axis=1)
    rest = 0.0
    if examples > 1:
        residuals = values - of_seed[:, None] - values.mean(axis=0) + values.mean()
        rest = float((residuals**2).sum()) / ((seeds - 1) * (examples - 1))
    return float(of_seed.var(ddof=1)) - rest / examples, rest


def _quantile(freedom: float, level: float) -> float:
    """How many standard errors the half of an interval is wide."""
    return float(stdtrit(min(freedom, 1e9), (1 + level) / 2))
