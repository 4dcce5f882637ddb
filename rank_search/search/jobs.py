"""From a trial's record to the job that an executor trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rank_search.core.job import Job
from rank_search.core.seeds import adapter_seed, batch_seed

if TYPE_CHECKING:
    from rank_search.study.handle import Study
    from rank_search.study.record import TrialRecord


def job_of(trial: TrialRecord, study_seed: int, study: Study) -> Job:
    """What a trial trains, now or again: it follows from what the study keeps of it.

    Trials on the same order of batches share their seed, so that they are compared in pairs.

    Args:
        trial: one whose proposal is drawn.
        study_seed: from which its seeds are derived.
        study: holds the trials and adapters that others are truncated from.

    Raises:
        ValueError: its proposal is not drawn.
    """
    candidate = trial.candidate
    if candidate is None:
        raise ValueError(f"the proposal of trial {trial.number} is not drawn")
    kept = trial.attributes.seed  # of a trial that is trained again; older versions gave each trial its own
    source, large = None, None
    if candidate.source is not None and trial.attributes.batch_order == 0:
        source = study.folder.adapter(candidate.source)
    elif candidate.source is not None:
        large = study.trial(candidate.source).candidate
    return Job(
        candidate,
        seed=adapter_seed(study_seed, trial.attributes.batch_order) if kept is None else kept,
        data_seed=batch_seed(study_seed, trial.attributes.batch_order),
        number=trial.number,
        source=source,
        large=large,
    )
