"""How far a study is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rank_search.analysis.front import front, hypervolume, reference_point
from rank_search.analysis.maps import study_maps
from rank_search.analysis.trials import ScoredTrial, scored

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from rank_search.study.handle import Study


@dataclass(frozen=True)
class StudyStatus:
    """The state of a study at one moment.

    Attributes:
        study: its name.
        state: whether a driver works on it now.
        trials: state of a trial → number of trials.
        front: the maps of the front, by ascending parameters.
        hypervolume: of the front.
        failures: reason of a failed trial → number of trials.
        failure_kinds: kind of failure → number of trials.
    """

    study: str
    state: Literal["running", "idle"]
    trials: Mapping[str, int]
    front: tuple[ScoredTrial, ...]
    hypervolume: float
    failures: Mapping[str, int]
    failure_kinds: Mapping[str, int]


def study_status(study: Study) -> StudyStatus:
    """Looks at a study's trials and front; writes nothing."""
    trials, maps = study.table(), study_maps(study)
    return StudyStatus(
        study=study.name,
        state="running" if study.is_running() else "idle",
        trials=_counts(trials["state"]),
        front=tuple(scored(front(maps)).values()),
        hypervolume=hypervolume(maps, reference_point(maps, study.space.reference_parameters)),
        failures=_counts(trials["reason"]),
        failure_kinds=_counts(trials["failure"]),
    )


def _counts(column: pd.Series) -> dict[str, int]:
    """Value → number of rows with it, the most frequent first; empty rows do not count."""
    return {str(value): int(count) for value, count in column.dropna().value_counts().items()}
