"""How much each dimension matters for reaching the front."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rank_search.study.handle import Study

MIN_TRIALS = 8


@contextmanager
def _without_logs() -> Iterator[None]:
    """Optuna logs each new study; this one is not the user's."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def importance(study: Study) -> dict[str, float]:
    """Share of each dimension in what sets good trials apart, largest first; the shares sum to 1.

    Optuna's PED-ANOVA (arXiv:2304.10255) in its multi-objective form: good trials are chosen by
    non-domination rank. Rivals outside the space, which have no dimensions, are left out. Empty with fewer than
    `MIN_TRIALS` complete trials, which say nothing.
    """
    complete = study.optuna_study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    numbers = {trial.number for trial in study.trials() if trial.in_space}
    in_space = [trial for trial in complete if trial.number in numbers]
    if len(in_space) < MIN_TRIALS:
        return {}
    with _without_logs():
        searched = optuna.create_study(directions=study.optuna_study.directions)
    searched.add_trials(in_space)
    return get_param_importances(searched, evaluator=PedAnovaImportanceEvaluator())
