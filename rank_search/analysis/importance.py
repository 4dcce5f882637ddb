"""How much each dimension matters for reaching the front."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

if TYPE_CHECKING:
    from optuna import Study

MIN_TRIALS = 8


def importance(study: Study) -> dict[str, float]:
    """Share of each dimension in what sets good trials apart, largest first; the shares sum to 1.

    Optuna's PED-ANOVA (arXiv:2304.10255) in its multi-objective form: good trials are chosen by
    non-domination rank. Empty with fewer than `MIN_TRIALS` complete trials, which say nothing.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < MIN_TRIALS:
        return {}
    return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
