"""What is compared: the map that a rule chooses, and the baselines that it has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rank_search.analysis.choice import choose
from rank_search.analysis.trials import scored
from rank_search.core.rivals import UNIFORM

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from rank_search.analysis.evidence import Evidence
    from rank_search.analysis.trials import ScoredTrial
    from rank_search.core.choice import Rule

# Roles of the baselines.
BEST_UNIFORM = "best uniform"  # the best uniform map of any size: what the user would have trained
UNIFORM_RIVAL = "uniform"  # the uniform map that costs no more
SVD_RIVAL = "svd"  # the map that truncating a large adapter gives at no more parameters


@dataclass(frozen=True)
class Comparison:
    """The chosen map and its baselines by their role.

    One map may have several roles, and the chosen map may be its own baseline. A role that no map has is left out.
    """

    chosen: ScoredTrial
    baselines: Mapping[str, ScoredTrial]

    @classmethod
    def from_evidence(cls, evidence: Evidence, rule: Rule) -> Comparison:
        """The comparison of the map that a rule chooses.

        Raises:
            RankSearchError: no map has a score yet, or none meets the rule.
        """
        chosen = choose(evidence, rule)
        baselines = {
            BEST_UNIFORM: evidence.best_uniform,
            UNIFORM_RIVAL: uniform_rival(evidence.maps, chosen),
            SVD_RIVAL: svd_rival(evidence.maps, chosen),
        }
        return cls(chosen, {role: trial for role, trial in baselines.items() if trial is not None})

    @property
    def main(self) -> ScoredTrial | None:
        """The baseline that the headline is about: the best uniform map; without one rank 0 everywhere."""
        return self.baselines.get(BEST_UNIFORM) or self.baselines.get(UNIFORM_RIVAL)

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


def svd_rival(maps: pd.DataFrame, chosen: ScoredTrial) -> ScoredTrial | None:
    """The best-scoring truncation of the large adapter with no more parameters than the chosen map."""
    truncations = scored(maps[maps["recipe"] == "truncate"]).values()
    affordable = [trial for trial in truncations if trial.trainable_parameters <= chosen.trainable_parameters]
    return max(affordable, key=lambda trial: (trial.score, -trial.trainable_parameters), default=None)


def _uniform(maps: pd.DataFrame) -> list[ScoredTrial]:
    return list(scored(maps[maps["kind"] == UNIFORM]).values())
