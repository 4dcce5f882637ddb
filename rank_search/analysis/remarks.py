"""What the figures of a study say of the study itself: of its slope, its scores and its recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rank_search.analysis.slope import slope
from rank_search.core.rivals import SEARCH

if TYPE_CHECKING:
    from rank_search.analysis.evidence import Evidence
    from rank_search.analysis.search_gain import SearchGain
    from rank_search.core.rates import LearningRates

_LEAST = 10.0  # examples that the best uniform map gets wrong, below which maps can't be told apart


def remarks(evidence: Evidence, rates: LearningRates | None, gain: SearchGain | None = None) -> list[str]:
    """Sentences that a reader should know before the study's answer is acted upon.

    Args:
        evidence: what its maps score.
        rates: learning rates that were searched before its trials; None where they were not.
        gain: what its search added, if it proposed anything.
    """
    found = slope(evidence)
    of_slope = [found.sentence] if found is not None else []
    of_search = [gain.sentence] if gain is not None else _without_search(evidence)
    return [*of_slope, *of_search, *_saturation(evidence), *(rates.notes if rates is not None else ())]


def _without_search(evidence: Evidence) -> list[str]:
    """A sentence where the sampler proposed nothing, since the maps that come before took all trials."""
    if evidence.maps.empty or (evidence.maps["kind"] == SEARCH).any():
        return []
    return ["No map was searched: uniform ranks, starts and repeats took all trials; raise search.trials."]


def _saturation(evidence: Evidence) -> list[str]:
    """A sentence where fine-tuning gains nothing, or where nearly every validation example is right already."""
    best = evidence.best_uniform
    if best is None:
        return []
    if evidence.gain <= 0:
        return ["Fine-tuning gains nothing here: no uniform rank scores higher than no adapter at all."]
    values = evidence.searched.of_trial(best.number)
    if not len(values) or values.max() > 1 or values.min() < 0:  # such as a log-likelihood, which has no highest score
        return []
    wrong = float(np.sum(1 - values))
    if wrong >= _LEAST:
        return []
    sentence = (
        f"The score is saturated: of {len(values):,} validation examples uniform rank {best.top_rank} gets "
        f"{wrong:.1f} wrong, too few to tell maps apart; take harder examples, or more of them."
    )
    return [sentence]
