"""All that we need of Optuna's private interface, in one place.

tests/study/test_optuna_compat.py names the versions in which each of these was seen to work, and fails where one stops
working.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optuna.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna import Study
    from optuna.trial import FrozenTrial


def stored(trial: Trial) -> FrozenTrial:
    """A trial as it is in the storage now; another driver may have written to it."""
    return trial.storage.get_trial(trial._trial_id)


def reopened(study: Study, trial: FrozenTrial) -> Trial:
    """A running trial that can be worked on; Optuna itself only gives those that it has just asked for."""
    return Trial(study, trial._trial_id)


class StudyView:
    """A study of which samplers see only some trials.

    Samplers read trials by `Study.get_trials` and by the private `Study._get_trials`.

    Args:
        study: the whole study.
        keep: which trials are seen.
    """

    def __init__(self, study: Study, keep: Callable[[FrozenTrial], bool]) -> None:
        self._study = study
        self._keep = keep

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def get_trials(self, *args: Any, **kwargs: Any) -> list[FrozenTrial]:
        """The trials that are seen."""
        return [trial for trial in self._study.get_trials(*args, **kwargs) if self._keep(trial)]

    def _get_trials(self, *args: Any, **kwargs: Any) -> list[FrozenTrial]:
        return [trial for trial in self._study._get_trials(*args, **kwargs) if self._keep(trial)]
