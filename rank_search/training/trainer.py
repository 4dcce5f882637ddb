"""Trains, scores and times packs of rank maps on one frozen base model."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rank_search.adapters import Member, packed
from rank_search.config import InitConfig
from rank_search.core.job import FineTuned, no_callback
from rank_search.training.pack_training import PackTraining

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from rank_search.adapters import AdapterInit
    from rank_search.config import StudyConfig
    from rank_search.core.job import Job, OnStep, Outcome
    from rank_search.tasks.base import Task
    from rank_search.training.pack_training import StepTiming


def fine_tune(
    task: Task,
    jobs: Sequence[Job],
    config: StudyConfig,
    *,
    sources: Mapping[str, str],
    directions: Mapping[str, Tensor] | None = None,
    inits: Sequence[AdapterInit | None] = (),
    on_step: OnStep = no_callback,
) -> list[Outcome]:
    """Fine-tunes a pack of rank maps on the same batches, and scores them on their split.

    AdamW trains only the adapters and the task's head, with linear warm-up and decay. The gradients of each map and
    base model are clipped to ``max_grad_norm``. If the loss of a map is not finite, only that map fails. If there is
    no head, a map of zeros is not trained: it is the base model, and is scored as such. Final scores are computed in
    float32: bfloat16 changes them by up to 0.001, and users who load the adapter would not see the same scores.

    Args:
        task: holds the frozen base model; it is unchanged afterwards.
        jobs: what to train; they share their data seed, their split, and whether texts are augmented.
        config: the study file; each job's own settings override it.
        sources: where each base model comes from, by its prefix; written into the saved adapters.
        directions: for ``init.method: eva``, the result of `rank_search.adapters.eva_directions`.
        inits: the initial adapter of each job, None for the study's init rule; may be empty if all are None.
        on_step: called after each step.

    Returns:
        The outcome of each job, in the order of the jobs.
    """
    outcomes: dict[int, Outcome] = {}
    trained = [i for i, job in enumerate(jobs) if job.rank_map.adapted or task.head]
    if len(trained) < len(jobs):
        started = time.perf_counter()
        (evaluation,) = task.evaluate(jobs[0].split)
        seconds = time.perf_counter() - started
        outcomes |= {i: FineTuned(evaluation, (), seconds, None) for i in range(len(jobs)) if i not in trained}
    if trained:
        members = [_member(jobs[i], config, inits[i] if inits else None) for i in trained]
        with packed(task.backbone, members, task.head, directions) as pack:
            training = PackTraining(task, pack, {i: jobs[i] for i in trained}, config)
            outcomes |= training.run(on_step, sources)
    return [outcomes[i] for i in range(len(jobs))]


def score(
    task: Task, jobs: Sequence[Job], config: StudyConfig, inits: Sequence[AdapterInit], *, sources: Mapping[str, str]
) -> list[FineTuned]:
    """Scores initial adapters, all at once, without training them.

    Args:
        task: holds the frozen base model; it is unchanged afterwards.
        jobs: what to score; each has a rank above 0, and they share their split.
        config: the study file.
        inits: the adapter of each job.
        sources: where each base model comes from, by its prefix; written into the saved adapters.
    """
    members = [_member(job, config, init) for job, init in zip(jobs, inits, strict=True)]
    with packed(task.backbone, members, task.head) as pack:
        started = time.perf_counter()
        evaluations = task.evaluate(jobs[0].split, len(jobs))
        seconds = (time.perf_counter() - started) / len(jobs)
        return [
            FineTuned(evaluation, (), seconds, pack.adapters(k, sources).save, rank_map=jobs[k].rank_map)
            for k, evaluation in enumerate(evaluations)
        ]


def time_steps(task: Task, jobs: Sequence[Job], config: StudyConfig, steps: int) -> StepTiming:
    """Times trial steps of a pack: one warm-up step on the longest texts, then the first steps of the training.

    The base model is unchanged afterwards, and the trained weights are thrown away.

    Raises:
        TrainingFailed: a loss is not finite.
    """
    # The init rule does not change the cost of a step, so EVA's directions are not computed for this.
    adapter = config.adapter.model_copy(update={"init": InitConfig()})
    members = [Member(job.rank_map, adapter, job.seed) for job in jobs]
    with packed(task.backbone, members, task.head) as pack:
        return PackTraining(task, pack, dict(enumerate(jobs)), config).time_steps(steps, jobs)


def _member(job: Job, config: StudyConfig, init: AdapterInit | None) -> Member:
    adapter = config.tuned(job.settings).adapter
    if init is not None and init.scale is not None:
        adapter = adapter.model_copy(update={"scale": "constant", "alpha": init.scale})
    return Member(job.rank_map, adapter, job.seed, init)
