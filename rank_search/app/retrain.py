"""Trains a finished trial again, whose weights were not kept."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rank_search.app.loading import load_study_task, new_metadata, refuse_other
from rank_search.config import recorded, refuse_code
from rank_search.core.errors import RankSearchError, TrainingFailed
from rank_search.core.job import FineTuned
from rank_search.executors.local import LocalExecutor
from rank_search.models.library_logs import silence_library_logs
from rank_search.search.jobs import job_of

if TYPE_CHECKING:
    from rich.console import Console

    from rank_search.core.evaluation import Evaluation
    from rank_search.core.ranks import RankMap
    from rank_search.core.space import Space
    from rank_search.study.handle import Study
    from rank_search.study.record import TrialRecord


def retrain(study: Study, number: int, console: Console, *, trust_code: bool = False) -> None:
    """Trains a finished trial again, as it was trained, and keeps its adapter.

    It is the same candidate, seed and batches. The score is that of the trial, but for the last bits of floating-point
    sums, which depend on how many maps are trained at once, and on the machine; it is kept beside the trial's. Weights
    that are not those of the trial's record are not kept.

    Args:
        study: the study.
        number: of the trial.
        console: where progress goes.
        trust_code: run Python code that the study's record names: the base model's, and ``training.augmentation``.

    Raises:
        InputError: the data or the base model have changed since, or the record names code that the user does not
            trust.
        TrainingFailed: it can't be trained.
        RankSearchError: it came out with other ranks, parameters or another score than its record has.
    """
    silence_library_logs()
    refuse_code(study.metadata.config, trust_code=trust_code)
    config = recorded(study.metadata.config, trust_code=trust_code)
    folder, trial = study.folder, study.trial(number)
    with console.status(f"reading {config.task.data.source} and {config.model.source}"):
        task, space = load_study_task(config)
        refuse_other(study.metadata, new_metadata(config, space, task))
        executor = LocalExecutor(config, task, space)
    job = job_of(trial, config.seed, study)
    again = f"training trial {number} again"
    with folder.locked(), console.status(again) as shown:
        (outcome,) = executor.train(
            [job], lambda steps, _loss: shown.update(f"{again}: step {steps} of {config.training.steps}")
        )
        if isinstance(outcome, TrainingFailed):
            raise outcome
        if not isinstance(outcome, FineTuned) or outcome.save_adapter is None:
            raise TrainingFailed(f"trial {number} has nothing to train")
        _refuse_difference(trial, outcome.rank_map or job.rank_map, outcome.evaluation, space)
        outcome.save_adapter(folder.adapter(number))
        score, digests = outcome.evaluation.score, folder.adapter_digests(number)
        folder.write_result(number, {**folder.read_result(number), "adapter": digests, "retrained": score})
    console.print(f"trial {number} was trained again: {score:.4f}, and {trial.score:.4f} in the search")


def _refuse_difference(trial: TrialRecord, rank_map: RankMap, evaluation: Evaluation, space: Space) -> None:
    """Checks that a training came to what the trial's record says.

    Rounding may turn a few examples, so scores may differ by one standard error over the examples, or by one example.

    Raises:
        RankSearchError: ranks, parameters or score differ.
    """
    kept = trial.rank_map
    if kept is None or trial.score is None:
        raise RankSearchError(f"trial {trial.number} has no ranks and no score that a training could be compared with")
    errors = (trial.attributes.score_se, evaluation.standard_error, 1 / len(evaluation.values[evaluation.metric]))
    allowed = max(error for error in errors if error is not None and math.isfinite(error))
    is_same_map = kept.adapted == rank_map.adapted
    if is_same_map and abs(evaluation.score - trial.score) <= allowed:
        return
    found = f"{evaluation.score:.4f} with {space.parameters(rank_map):,} parameters"
    if not is_same_map:
        names = kept.adapted.keys() | rank_map.adapted.keys()
        name = min(name for name in names if kept.ranks.get(name, 0) != rank_map.ranks.get(name, 0))
        found += f", and {name!r} has rank {rank_map.ranks.get(name, 0)}, not {kept.ranks.get(name, 0)}"
    raise RankSearchError(
        f"trial {trial.number} was trained again and came out as another: its record says {trial.score:.4f} with "
        f"{space.parameters(kept):,} parameters, and it came to {found}; nothing was kept. Another version of a "
        "library, another device or another precision may be the reason: see the environment in the report"
    )
