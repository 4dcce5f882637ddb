"""What is compared: the map that the default rule chooses, and the baselines that it has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rank_search.analysis.choice import DEFAULT_RULE, Rule, choose
from rank_search.analysis.trials import scored
from rank_search.core.rivals import SVD, UNIFORM

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from rank_search.analysis.trials import ScoredTrial

# Roles of the baselines.
UNIFORM_RIVAL = "uniform"  # the uniform map that costs no more
SVD_RIVAL = "svd"  # the map that truncating a large adapter gives at no more parameters
BEST_UNIFORM = "best uniform"  # the best uniform map of any size


@dataclass(frozen=True)
class Comparison:
    """The chosen map and its baselines by their role.

    One map may have several roles, and the chosen map may be its own baseline. A role that no map has is left out.
    """

    chosen: ScoredTrial
    baselines: Mapping[str, ScoredTrial]

    @classmethod
    def from_tables(cls, maps: pd.DataFrame, trials: pd.DataFrame) -> Comparison:
        """The comparison of a study.

        Args:
            maps: its table of maps.
            trials: its table of trials.

        Raises:
            RankSearchError: no map has a score yet.
        """
        chosen = choose(maps, Rule.parse(DEFAULT_RULE))
        baselines = {
            UNIFORM_RIVAL: uniform_rival(maps, chosen),
            SVD_RIVAL: svd_rival(trials, chosen),
            BEST_UNIFORM: best_uniform(maps),
        }
        return cls(chosen, {role: trial for role, trial in baselines.items() if trial is not None})

    @property
    def uniform(self) -> ScoredTrial | None:
        """The uniform map that the verdict is about."""
        return self.baselines.get(UNIFORM_RIVAL)

    @property
    def trials(self) -> dict[str, ScoredTrial]:
        """All of them by role, ``chosen`` first."""
        return {"chosen": self.chosen, **self.baselines}

    @property
    def numbers(self) -> dict[str, int]:
        """Role → trial number, which identifies the comparison."""
        return {role: trial.number for role, trial in self.trials.items()}


def uniform_rival(maps: pd.DataFrame, chosen: ScoredTrial) -> ScoredTrial | None:
    """The uniform map that the chosen map has to beat.

    The best-scoring trained one with no more parameters. A chosen map smaller than all of them is set
    against the smallest of them; a study without any has the untrained model, if it was scored. A chosen
    map that is uniform itself is its own rival.
    """
    return chosen if chosen.kind == UNIFORM else _rival(_uniform(maps), chosen)


def uniform_rivals(maps: pd.DataFrame, trials: Iterable[ScoredTrial]) -> dict[int, int]:
    """Number of each trial → that of the uniform map that `uniform_rival` sets against it."""
    uniform = _uniform(maps)
    found = {trial.number: trial if trial.kind == UNIFORM else _rival(uniform, trial) for trial in trials}
    return {number: rival.number for number, rival in found.items() if rival is not None}


def _rival(uniform: Sequence[ScoredTrial], chosen: ScoredTrial) -> ScoredTrial | None:
    trained = [trial for trial in uniform if trial.top_rank > 0]
    affordable = [trial for trial in trained if trial.trainable_parameters <= chosen.trainable_parameters]
    if affordable:
        return max(affordable, key=lambda trial: (trial.score, -trial.trainable_parameters))
    return min(trained or uniform, key=lambda trial: trial.trainable_parameters, default=None)


def svd_rival(trials: pd.DataFrame, chosen: ScoredTrial) -> ScoredTrial | None:
    """The best-scoring truncation of the large adapter with no more parameters than the chosen map."""
    truncations = scored(trials[trials["kind"] == SVD]).values()
    affordable = [trial for trial in truncations if trial.trainable_parameters <= chosen.trainable_parameters]
    return max(affordable, key=lambda trial: (trial.score, -trial.trainable_parameters), default=None)


def best_uniform(maps: pd.DataFrame) -> ScoredTrial | None:
    """The best-scoring trained uniform map."""
    trained = [trial for trial in _uniform(maps) if trial.top_rank > 0]
    return max(trained, key=lambda trial: (trial.score, -trial.trainable_parameters), default=None)


def _uniform(maps: pd.DataFrame) -> list[ScoredTrial]:
    return list(scored(maps[maps["kind"] == UNIFORM]).values())
