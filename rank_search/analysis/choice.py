"""Rules that choose one map from a study's front."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rank_search.core.errors import RankSearchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rank_search.analysis.evidence import Evidence, FrontTest
    from rank_search.analysis.paired import PairedDifference
    from rank_search.analysis.trials import ScoredTrial
    from rank_search.core.choice import Rule

ALPHA = 0.05  # how often as-good-as-best may choose a map that is worse by more than the margin
_LEVEL = 1 - 2 * ALPHA  # of the interval whose lower end is a one-sided bound at that level


@dataclass(frozen=True)
class Step:
    """One map that a test looked at.

    Attributes:
        number: of the map.
        difference: to the best map of the front; None where it can't be had.
        low: lower end of the difference, with an error of `ALPHA`.
        is_as_good: whether the map is shown to be no worse than the best one by more than the margin.
    """

    number: int
    difference: PairedDifference | None
    low: float
    is_as_good: bool


@dataclass(frozen=True)
class Walk:
    """One test along a front, from its best map downward to the first that is not shown to be as good.

    Attributes:
        test: which maps, on which examples.
        steps: the maps in the order in which they were tested.
    """

    test: FrontTest
    steps: tuple[Step, ...]

    @property
    def chosen(self) -> int | None:
        """Number of the smallest map before the first that failed; the best one where that is the first."""
        passed = [step.number for step in self.steps if step.is_as_good]
        return passed[-1] if passed else (self.test.front[-1] if self.test.front else None)


def walk(test: FrontTest, margin: float) -> Walk:
    """Tests the maps of a front against its best one, from the largest downward, until one fails.

    Each map is tested for being no worse than the best one by more than the margin (non-inferiority). The order is
    fixed before, and the first failure ends it, so all tests together err no more often than one (fixed-sequence
    testing; Pareto Testing, arXiv:2210.07913).
    """
    steps: list[Step] = []
    for number in reversed(test.front[:-1]):
        difference = test.scores.difference(number, test.front[-1])
        low = difference.interval(_LEVEL)[0] if difference else float("-inf")
        steps.append(Step(number, difference, low, low > -margin))
        if not steps[-1].is_as_good:
            break
    return Walk(test, tuple(steps))


def choose(evidence: Evidence, rule: Rule) -> ScoredTrial:
    """The map that a rule chooses; it stands on the front, or on that of one half of the examples.

    ``as-good-as-best``: the smallest map that is shown to be no worse than the best one by more than the margin, see
    `walk`; of the choices on two halves of the examples the larger one. ``best``: the highest score.
    ``within-one-se``: the smallest map that is below the best by no more than the standard error of their paired
    difference (after the one-standard-error rule of Breiman et al., 1984). ``knee``: the map farthest above the line
    from the smallest to the best map (Satopää et al., 2011), both axes scaled to 0–1. ``max-parameters``: the highest
    score with no more parameters. ``min-score``: the smallest map that scores no less.

    Raises:
        RankSearchError: the study has no scored trial yet, or none meets the bound.
    """
    candidates = evidence.front
    if not candidates:
        raise RankSearchError("no trial of the study has a score yet; see its status, and run it")
    best = candidates[-1]
    bound = rule.bound or 0.0
    match rule.name:
        case "best":
            return best
        case "knee":
            return _knee(candidates)
        case "max-parameters":
            chosen = [trial for trial in candidates if trial.trainable_parameters <= bound][-1:]
        case "min-score":
            chosen = [trial for trial in candidates if trial.score >= bound]
        case "within-one-se":
            chosen = [trial for trial in candidates if _is_within_one_se(evidence, trial, best)]
        case _:
            return _as_good_as_best(evidence)
    if not chosen:
        smallest = candidates[0]
        raise RankSearchError(
            f"no map meets {rule}: the smallest has {smallest.trainable_parameters:,} parameters "
            f"and scores {smallest.score:.4f}, the best scores {best.score:.4f}"
        )
    return chosen[0]


def walks(evidence: Evidence) -> list[Walk]:
    """The tests that ``as-good-as-best`` makes."""
    return [walk(test, evidence.margin) for test in evidence.tests]


def contested(evidence: Evidence) -> list[tuple[int, int]]:
    """Pairs of maps, by their numbers, whose comparison decides what is chosen; the most urgent first.

    The map at which each test stopped, and those that would come next, against the best map of its front, unless it is
    shown to be worse than that by more than the margin; then all other maps, the likeliest on the front first.
    """
    urgent: list[list[tuple[int, int]]] = []
    for made in walks(evidence):
        passed = sum(step.is_as_good for step in made.steps)
        waiting = [(number, made.test.front[-1]) for number in made.test.front[:-1][::-1][passed:]]
        failed = next((step.difference for step in made.steps if not step.is_as_good), None)
        is_settled = failed is not None and failed.interval(_LEVEL)[1] < -evidence.margin
        urgent.append([] if is_settled else waiting)
    turns = max(map(len, urgent), default=0)
    by_turn = [pairs[turn] for turn in range(turns) for pairs in urgent if turn < len(pairs)]
    if not evidence.front:
        return by_turn
    best = evidence.front[-1].number
    likely = evidence.maps.sort_values(["front_probability", "number"], ascending=[False, True])["number"].tolist()
    return list(dict.fromkeys([*by_turn, *((int(number), best) for number in likely if number != best)]))


def _as_good_as_best(evidence: Evidence) -> ScoredTrial:
    chosen = [number for made in walks(evidence) if (number := made.chosen) is not None]
    if not chosen:  # no scores by example are on record, so that nothing can be shown
        return evidence.front[-1]
    found: Sequence[ScoredTrial] = [evidence.by_number[number] for number in chosen]
    return max(found, key=lambda trial: (trial.trainable_parameters, trial.score))


def _is_within_one_se(evidence: Evidence, trial: ScoredTrial, best: ScoredTrial) -> bool:
    if trial.number == best.number:
        return True
    difference = evidence.searched.difference(trial.number, best.number)
    return difference is not None and difference.delta >= -difference.se


def _knee(candidates: list[ScoredTrial]) -> ScoredTrial:
    """The candidate farthest above the chord from the first to the last; the last where there is no third."""
    first, last = candidates[0], candidates[-1]

    def height(trial: ScoredTrial) -> float:
        share = (trial.trainable_parameters - first.trainable_parameters) / (
            last.trainable_parameters - first.trainable_parameters
        )
        return (trial.score - first.score) / (last.score - first.score) - share

    return max(candidates, key=height) if len(candidates) > 2 else last
