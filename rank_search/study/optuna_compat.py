"""All that we need of Optuna's private interface, in one place.

tests/study/test_optuna_compat.py names the versions in which each of these was seen to work, and fails where one stops
working.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optuna.storages._cached_storage import _CachedStorage
from optuna.trial import Trial
from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna import Study
    from optuna.trial import FrozenTrial


# What Optuna raises at values in its database that it can't have written: JSON that is none, NULL, an unknown state.
UNREADABLE = (ValueError, TypeError, LookupError, AssertionError)
_TRIALS = text("SELECT trial_id, number FROM trials WHERE study_id = :study ORDER BY number")


def stored(trial: Trial) -> FrozenTrial:
    """A trial as it is in the storage now; another driver may have written to it."""
    return trial.storage.get_trial(trial._trial_id)


def reopened(study: Study, trial: FrozenTrial) -> Trial:
    """A running trial that can be worked on; Optuna itself only gives those that it has just asked for."""
    return Trial(study, trial._trial_id)


def readable(study: Study) -> tuple[list[FrozenTrial], dict[int, Exception]]:
    """The trials of a study that Optuna can read, and the number of each other trial with what it raises.

    Optuna reads all trials at once, and fails as a whole at a single broken value in its database.
    """
    try:
        return study.get_trials(deepcopy=False), {}
    except UNREADABLE:
        if not isinstance(storage := study._storage, _CachedStorage):
            raise
    trials: list[FrozenTrial] = []
    broken: dict[int, Exception] = {}
    tables = storage._backend.engine
    with tables.connect() as connection:
        rows = connection.execute(_TRIALS, {"study": study._study_id}).all()
    for trial_id, number in rows:
        try:
            trials.append(storage._backend.get_trial(trial_id))
        except UNREADABLE as error:
            broken[number] = error
    return trials, broken


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
