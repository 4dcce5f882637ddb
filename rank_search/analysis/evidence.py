"""What is known of a study's maps when one of them is chosen: their table, their scores in pairs, and the margin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING

from rank_search.analysis.front import front
from rank_search.analysis.maps import study_maps
from rank_search.analysis.scores import ExampleScores
from rank_search.analysis.trials import complete, scored
from rank_search.core.choice import Margin
from rank_search.core.rivals import LIKELY, UNIFORM

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from rank_search.analysis.trials import ScoredTrial
    from rank_search.study.handle import Study

_LOOKED_AT = 5  # maps, the first of a study, which tell whether it has examples that are for the choice


@dataclass(frozen=True)
class FrontTest:
    """One run of tests along a front, on examples that did not make the front.

    Attributes:
        examples: which they are, in words.
        front: numbers of the maps on the front, by ascending parameters.
        scores: on these examples.
    """

    examples: str
    front: Sequence[int]
    scores: ExampleScores


@dataclass(frozen=True)
class Evidence:
    """What a choice rests on.

    Attributes:
        trials: the study's table of trials.
        maps: its table of maps.
        searched: scores on the examples of the search.
        selected: scores on the examples that are for the choice alone; None where the study has none.
        accepted: the margin as the study file gives it.
    """

    trials: pd.DataFrame
    maps: pd.DataFrame
    searched: ExampleScores
    selected: ExampleScores | None
    accepted: Margin

    @cached_property
    def by_number(self) -> dict[int, ScoredTrial]:
        """Number of a map's first training → the map."""
        return scored(self.maps)

    @cached_property
    def front(self) -> list[ScoredTrial]:
        """The maps on the front of the search, by ascending parameters, and so by ascending score."""
        return [self.by_number[number] for number in front(self.maps)["number"]]

    @cached_property
    def tests(self) -> tuple[FrontTest, ...]:
        """The tests that a choice is made by.

        On the examples that are for the choice. Without them on the two halves of the others: the maps that are tested
        on one half are the front of the other half (cross-fitting).
        """
        if self.selected is not None:
            numbers = [trial.number for trial in self.front]
            return (FrontTest("examples that the search never saw", numbers, self.selected),)
        first, second = self.searched.halves()
        return (
            FrontTest("one half of the examples, from the front of the other half", self._front_of(second), first),
            FrontTest("the other half, from the front of the first", self._front_of(first), second),
        )

    def _front_of(self, scores: ExampleScores) -> list[int]:
        """The front by some of the examples, of the maps that a study keeps the weights of."""
        likely = self.maps["number"][self.maps["front_probability"] >= LIKELY].tolist()
        numbers = {*map(int, likely), *(trial.number for trial in self.front)}
        kept = {number: orders for number, orders in scores.trainings.items() if number in numbers}
        means = replace(scores, trainings=kept).means()
        known = self.maps[self.maps["number"].isin(list(means))]
        return [int(number) for number in front(known.assign(score=known["number"].map(means)))["number"]]

    @cached_property
    def uniform(self) -> list[ScoredTrial]:
        """The trained uniform maps, by ascending parameters."""
        found = (trial for trial in self.by_number.values() if trial.kind == UNIFORM and trial.top_rank > 0)
        return sorted(found, key=lambda trial: trial.trainable_parameters)

    @cached_property
    def best_uniform(self) -> ScoredTrial | None:
        """The best-scoring uniform map, of those that score the same the smallest."""
        return max(self.uniform, key=lambda trial: (trial.score, -trial.trainable_parameters), default=None)

    @cached_property
    def gain(self) -> float:
        """What fine-tuning gains: the best uniform map above rank 0 everywhere.

        In a study that does not score rank 0, above the worst uniform map: less, so that a share of it is stricter.
        """
        if self.best_uniform is None:
            return 0.0
        untrained = [trial.score for trial in self.by_number.values() if trial.trainable_parameters == 0]
        return self.best_uniform.score - (untrained[0] if untrained else min(trial.score for trial in self.uniform))

    @cached_property
    def margin(self) -> float:
        """The loss of score that is accepted, in units of the metric."""
        return self.accepted.of_gain(self.gain)


def study_evidence(study: Study) -> Evidence:
    """The evidence of a study, with the per-example scores that its folder holds."""
    trials, maps = study.table(), study_maps(study)
    searched, selected = cache(study.example_scores), cache(study.selection_scores)
    trainings = trainings_of(trials, maps)
    has_selection = any(len(selected(int(number))) for number in maps["number"][:_LOOKED_AT])
    return Evidence(
        trials,
        maps,
        ExampleScores(trainings, searched),
        ExampleScores(trainings, selected) if has_selection else None,
        Margin.parse(study.config.choice.margin),
    )


def trainings_of(trials: pd.DataFrame, maps: pd.DataFrame) -> dict[int, dict[int, int]]:
    """Number of each map's first training → order of batches → trial."""
    done = complete(trials)
    order_of = dict(zip(done["number"], done["batch_order"], strict=True))
    return {
        int(number): {int(order_of[trial]): int(trial) for trial in reversed(numbers)}
        for number, numbers in zip(maps["number"], maps["trials"], strict=True)
    }
