"""Which differences a study can show, from its examples and seeds, before they are spent."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from rank_search.analysis.choice import ALPHA
from rank_search.analysis.looks import level, looks
from rank_search.analysis.paired import PairedDifference

if TYPE_CHECKING:
    from rank_search.analysis.evidence import Evidence

# Standard deviations of paired differences of a metric between 0 and 1, as the fresh trainings of the demo's verdict
# differ: over examples, between seeds, and of the rest.
_OF_EXAMPLE, _OF_SEED, _OF_REST = 0.05, 0.003, 0.09


@dataclass(frozen=True)
class Spread:
    """How far paired differences spread: variances, as in `PairedDifference`.

    Attributes:
        of_seed: between seeds.
        of_example: over examples.
        of_rest: beside these.
        pairs: pairs of maps of this study that it was measured on; 0 where it is taken from other studies.
    """

    of_seed: float
    of_example: float
    of_rest: float
    pairs: int = 0

    def half_width(self, seeds: int, examples: int, confidence: float) -> float:
        """Half of the width of an interval of this level."""
        return self._difference(seeds, examples).half_width(seeds, examples, confidence)

    def examples_needed(self, margin: float, seeds: int, confidence: float) -> int | None:
        """Examples with which half an interval is no wider than a margin; None where a million are too few."""
        return self._difference(seeds, 2).examples_needed(margin, confidence)

    def _difference(self, seeds: int, examples: int) -> PairedDifference:
        return PairedDifference(0.0, seeds, examples, self.of_seed, self.of_example, self.of_rest, freedom=1e9)


ASSUMED = Spread(_OF_SEED**2, _OF_EXAMPLE**2, _OF_REST**2)


@dataclass(frozen=True)
class Power:
    """What the choice and the verdict of a study can show.

    Attributes:
        spread: of its differences.
        choice: examples that the choice is made on.
        test: test examples.
        verdict: seeds of a look → half of the width of the verdict's interval then.
        choice_bound: how far below its mean the one-sided bound of the choice lies, with two trainings of each map.
        margin: the accepted loss, in units of the metric; None where it is a share of a gain that is not known yet.
        test_needed: test examples that the margin needs at the first look; None where none would do, or it is unknown.
    """

    spread: Spread
    choice: int
    test: int
    verdict: dict[int, float]
    choice_bound: float
    margin: float | None
    test_needed: int | None


_CHOICE_SEEDS = 2  # trainings of a map in doubt when it is chosen: the first, and one repeat


def measured_spread(evidence: Evidence) -> Spread | None:
    """The median spread of the differences between a study's best map and the other maps of its front and ladder."""
    if not evidence.front:
        return None
    best = evidence.front[-1]
    others = {trial.number for trial in (*evidence.front, *evidence.uniform) if trial.trainable_parameters}
    found = [evidence.searched.difference(number, best.number) for number in sorted(others - {best.number})]
    known = [difference for difference in found if difference is not None and difference.examples > 1]
    if not known:
        return None
    return Spread(
        median(difference.of_seed for difference in known),
        median(difference.of_example for difference in known),
        median(difference.of_rest for difference in known),
        len(known),
    )


def power(choice: int, test: int, most_seeds: int, margin: float | None, spread: Spread = ASSUMED) -> Power:
    """What a study can show.

    Args:
        choice: examples that the choice is made on.
        test: test examples.
        most_seeds: fresh seeds that the verdict may train.
        margin: the accepted loss, in units of the metric, if it is known.
        spread: of its differences.
    """
    planned = looks(most_seeds)
    first = planned[0] if planned else 1
    return Power(
        spread,
        choice,
        test,
        {seeds: spread.half_width(seeds, test, level(seeds)) for seeds in planned},
        spread.half_width(_CHOICE_SEEDS, choice, 1 - 2 * ALPHA),
        margin,
        None if margin is None else spread.examples_needed(margin, first, level(first)),
    )


def sentences(found: Power, metric: str) -> list[str]:
    """What a study can show, for a reader."""
    pairs = found.spread.pairs
    source = f"as {pairs} pairs of its maps spread" if pairs else "if its maps spread as those of other studies"
    loss = f"the choice, on {found.choice:,} examples, can show that a map loses no more than {found.choice_bound:.4f}"
    if not found.verdict:
        return [loss]
    (first, wide), (last, narrow) = min(found.verdict.items()), max(found.verdict.items())
    seeds = f"±{wide:.4f} with {first} seeds" + (f", ±{narrow:.4f} with {last}" if narrow < wide else "")
    lines = [f"{found.test:,} test examples can show differences in {metric} of {seeds} ({source})", loss]
    if found.margin is not None:
        enough = "which suffice" if min(wide, narrow) <= found.margin else "which are too few"
        needed = f"about {found.test_needed:,}" if found.test_needed is not None else "more than a million"
        lines.append(
            f"a margin of {found.margin:.4f} takes {needed} test examples with {first} seeds; there are "
            f"{found.test:,}, {enough}"
        )
    return lines
