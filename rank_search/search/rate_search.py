"""The search for learning rates, before the trials: ranks that are compared at one untuned rate compare rates.

The smallest and the largest uniform map, and the head where there is one, are trained at several rates each. Every map
of the study is then trained at the rate of its size (`rank_search.core.rates`), the uniform ones too. At last the
better of the two maps is trained for twice the steps, which shows whether the study's trainings are long enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from rank_search.core.candidate import Candidate
from rank_search.core.rates import LearningRates
from rank_search.core.seeds import rate_seeds
from rank_search.search.fresh_trainings import FreshTrainings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rank_search.config import StudyConfig
    from rank_search.core.ranks import RankMap
    from rank_search.executors.protocol import Executor
    from rank_search.study.handle import Study

    OnProgress = Callable[[int, int], None]

_EXTENSIONS = 3  # further rates that are tried beyond an edge of the grid, while the best one lies there
PLACE = "rates"  # folder of the trainings' results
_LONGER = 2  # times the steps, with which the steps of the study are compared
_SURE = 2.0  # standard errors of a paired difference, above which a longer training is better


@dataclass(frozen=True)
class RateSearch:
    """The search for the rates of one study.

    Attributes:
        study: the study.
        config: the study file.
        pack: how many maps are trained at once.
        has_head: whether the task trains a head.
    """

    study: Study
    config: StudyConfig
    pack: int
    has_head: bool

    @classmethod
    def is_wanted(cls, study: Study, config: StudyConfig) -> bool:
        """Whether rates are to be searched: nothing is trained yet, and they are not searched beside the ranks."""
        return bool(config.search.tune_uniform) and "learning_rate" not in study.space.joint and not study.trials()

    def run(self, executor: Executor, on_progress: OnProgress) -> LearningRates:
        """Trains what is missing, and returns the best rates.

        Args:
            executor: trains.
            on_progress: called with the trainings that are done, and with all so far.
        """
        head, notes = None, list[str]()
        if self.has_head:
            base = self.config.training.rate_of_head
            untrained = self.study.space.uniform(0)
            found = self._best("head_learning_rate", {"the head": untrained}, base, {}, executor, on_progress)
            head, note = found["the head"]
            notes += note
        base = self.config.training.learning_rate
        ranks = dict.fromkeys([self._ranks[0], self._ranks[-1]])
        maps = {f"uniform rank {rank}": self.study.space.uniform(rank) for rank in ranks}
        fixed = {} if head is None else {"head_learning_rate": head}
        found = self._best("learning_rate", maps, base, fixed, executor, on_progress)
        notes += [line for _, note in found.values() for line in note]
        tuned = {name: Candidate(maps[name], {"learning_rate": rate, **fixed}) for name, (rate, _) in found.items()}
        notes += self._compared_with_longer(tuned, executor, on_progress)
        points = tuple((self.study.space.parameters(maps[name]), rate) for name, (rate, _) in found.items())
        return LearningRates(points, head, tuple(notes))

    def _compared_with_longer(
        self, tuned: Mapping[str, Candidate], executor: Executor, on_progress: OnProgress
    ) -> list[str]:
        """Whether the better of the tuned maps scores higher if it is trained for longer."""
        scores = {name: fmean(values) for name, candidate in tuned.items() if (values := self._values(candidate))}
        if not scores:
            return []
        name = max(scores, key=lambda name: scores[name])
        steps = _LONGER * self.config.training.steps
        longer = replace(tuned[name], settings={**tuned[name].settings, "steps": steps})
        self._trainings.run([longer], 1, executor, on_progress)
        return [_about_steps(name, steps, self._values(tuned[name]), self._values(longer))]

    @property
    def _ranks(self) -> list[int]:
        return [rank for rank in self.study.space.ladder if rank]

    def _best(
        self,
        setting: str,
        maps: dict[str, RankMap],
        base: float,
        fixed: dict[str, float],
        executor: Executor,
        on_progress: OnProgress,
    ) -> dict[str, tuple[float, list[str]]]:
        """The best rate of each map by its name, with notes about it."""
        factors = sorted({1.0, *self.config.search.tune_uniform})
        grids = {name: [base * factor for factor in factors] for name in maps}

        def candidate(name: str, rate: float) -> Candidate:
            return Candidate(maps[name], {setting: rate, **fixed})

        for _ in range(_EXTENSIONS + 1):
            wanted = [candidate(name, rate) for name, grid in grids.items() for rate in grid]
            self._trainings.run(wanted, 1, executor, on_progress, self.pack)
            scores = {
                name: {rate: score for rate in grid if (score := self._score(candidate(name, rate))) is not None}
                for name, grid in grids.items()
            }
            wider = {name: _widened(grids[name], found, base) for name, found in scores.items()}
            if wider == grids:
                break
            grids = wider
        return {name: _picked(name, base, found) for name, found in scores.items()}

    @property
    def _trainings(self) -> FreshTrainings:
        return FreshTrainings(self.study, self.config.seed, PLACE, rate_seeds, "validation")

    def _score(self, candidate: Candidate) -> float | None:
        """Mean of what was scored; None where the training failed."""
        values = self._values(candidate)
        return fmean(values) if values else None

    def _values(self, candidate: Candidate) -> Sequence[float]:
        """What was scored for each example; empty where the training failed."""
        result = self.study.folder.read_training(PLACE, candidate.key, 0)
        values: Sequence[float] = result.get("values", {}).get(self.study.metric, ())
        return values


def _best_rate(scores: dict[float, float], base: float) -> float:
    """The rate with the highest score; of equal ones that nearest to the study file's own."""
    return max(scores, key=lambda rate: (scores[rate], -abs(math.log(rate / base))))


def _widened(grid: Sequence[float], scores: dict[float, float], base: float) -> list[float]:
    """The grid with a rate beyond that edge at which the best one lies; as it is where the best one lies within."""
    if len(grid) < 2 or not scores:
        return list(grid)
    best = _best_rate(scores, base)
    if best == grid[0]:
        return [grid[0] ** 2 / grid[1], *grid]
    if best == grid[-1]:
        return [*grid, grid[-1] ** 2 / grid[-2]]
    return list(grid)


def _picked(name: str, base: float, scores: dict[float, float]) -> tuple[float, list[str]]:
    """The best rate, and what is to be said of it."""
    if not scores:
        return base, [f"No training of {name} at any learning rate had a score; {base:g} stays."]
    best = _best_rate(scores, base)
    note = f"Learning rate of {name}: {best:.2g}, the best of {len(scores)} tried ({scores[best]:.4f}"
    note += f"; untuned, at {base:g}, {scores[base]:.4f})" if base in scores and base != best else ")"
    if best in (min(scores), max(scores)):
        note += "; it lies at the edge of those tried, so another may be better still"
    return best, [f"{note}."]


def _about_steps(name: str, steps: int, before: Sequence[float], after: Sequence[float]) -> str:
    """What twice the steps come to, in pairs of the same examples."""
    if len(before) != len(after) or len(after) < 2:
        return f"No training of {name} with {steps} steps had a score."
    differences = [new - old for new, old in zip(after, before, strict=True)]
    delta, error = fmean(differences), stdev(differences) / math.sqrt(len(differences))
    found = f"With {steps} steps {name} scores {delta:+.4f} ± {_SURE * error:.4f} above the study's".replace("-", "−")
    if delta > _SURE * error:
        return f"{found}: it is undertrained; raise training.steps before trusting any comparison of ranks."
    return f"{found}: nothing shows that its steps are too few."
