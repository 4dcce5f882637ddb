"""What the search added to what costs no search."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rank_search.analysis.choice import choose
from rank_search.analysis.front import hypervolume, reference_point
from rank_search.core.errors import RankSearchError
from rank_search.core.rivals import SEARCH

if TYPE_CHECKING:
    from rank_search.analysis.evidence import Evidence
    from rank_search.analysis.trials import ScoredTrial
    from rank_search.core.choice import Rule


@dataclass(frozen=True)
class SearchGain:
    """A study with and without the maps that its search proposed.

    Attributes:
        rivals_hypervolume: of the front of all that costs no search.
        hypervolume: of the front of all maps.
        rivals_choice: what the rule chooses of what costs no search.
        choice: what it chooses of all maps.
    """

    rivals_hypervolume: float
    hypervolume: float
    rivals_choice: ScoredTrial
    choice: ScoredTrial

    @property
    def sentence(self) -> str:
        """What the search added, for a reader."""
        more = self.hypervolume / self.rivals_hypervolume - 1 if self.rivals_hypervolume > 0 else 0.0
        front = f"The search added {more:.1%} to the hypervolume of what costs no search"
        before, after = self.rivals_choice.trainable_parameters, self.choice.trainable_parameters
        if self.choice.number == self.rivals_choice.number:
            return f"{front}, and nothing to the choice."
        why = "" if after < before else ", for want of a map that scores as high"
        return f"{front}; without it the choice would have {before:,} parameters{why}."


def search_gain(evidence: Evidence, rule: Rule, parameters: float) -> SearchGain | None:
    """What a study's search added; None where it proposed nothing, or nothing else can be chosen.

    Args:
        evidence: of all maps.
        rule: that chooses.
        parameters: of the hypervolume's reference point.
    """
    proposed = evidence.maps["kind"] == SEARCH
    if not proposed.any():
        return None
    rivals = replace(evidence, maps=evidence.maps[~proposed].reset_index(drop=True))
    try:
        without, chosen = choose(rivals, rule), choose(evidence, rule)
    except RankSearchError:
        return None
    reference = reference_point(evidence.maps, parameters)
    return SearchGain(hypervolume(rivals.maps, reference), hypervolume(evidence.maps, reference), without, chosen)
