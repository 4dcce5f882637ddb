"""The trainer: the adapters of a pack of maps on one frozen base, and a plain loop."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from rank_search.adapters import Member, base_models, packed
from rank_search.config import InitConfig
from rank_search.core.errors import TrainingFailed
from rank_search.core.job import FineTuned, Rungs, Stopped, unheard
from rank_search.training.attention import eager_where_short
from rank_search.training.cost import step_flops
from rank_search.training.memory import counting_activations
from rank_search.training.optimiser import Descent
from rank_search.training.precision import frozen_in, training_dtype

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from rank_search.adapters import Pack, Start
    from rank_search.config import StudyConfig
    from rank_search.core.job import Job, OnStep, Outcome
    from rank_search.tasks.base import Task


_LOOKED_AT = 1000  # batches, among which a rehearsal looks for the longest texts


@dataclass
class _Course:
    """One map on its way through the training of a pack.

    Attributes:
        place: of its job among those given.
        number: of its job.
        descent: takes its steps.
    """

    place: int
    number: int
    descent: Descent
    losses: list[float] = field(default_factory=list)
    rungs: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0


def fine_tune(
    task: Task,
    jobs: Sequence[Job],
    config: StudyConfig,
    *,
    sources: Mapping[str, str],
    directions: Mapping[str, Tensor] | None = None,
    starts: Sequence[Start | None] = (),
    rungs: Rungs | None = None,
    on_step: OnStep = unheard,
) -> list[Outcome]:
    """Fine-tunes a pack of rank maps on the same batches, and scores them on their split.

    AdamW on the adapters (and the task's head) alone, linear warm-up and decay, gradients of each map and base
    model clipped to ``max_grad_norm``. A map whose loss turns non-finite fails alone. A map of zeros is not
    trained where there is no head: it is the base model, and is scored as it stands. Final scores are computed
    in float32: bf16 moves them by up to 0.001, and whoever loads the adapter would not see the same ones.

    Args:
        task: holds the frozen base model; it leaves as it came.
        jobs: what to train; they share their data seed, their split, and whether texts are augmented.
        config: the study file; each job's own settings are put into it.
        sources: of each base model by its prefix, written into the saved adapters.
        directions: what `rank_search.adapters.eva_directions` found, for ``init.method: eva``.
        starts: where each job's adapter begins, if not by the study's init rule; empty where all do.
        rungs: where maps may be stopped.
        on_step: called after each step.

    Returns:
        What became of each job, in their order.
    """
    outcomes: dict[int, Outcome] = {}
    trained = [i for i, job in enumerate(jobs) if job.rank_map.adapted or task.head]
    if len(trained) < len(jobs):
        started = time.perf_counter()
        (evaluation,) = task.evaluate(jobs[0].split)
        seconds = time.perf_counter() - started
        outcomes |= {i: FineTuned(evaluation, (), seconds, None) for i in range(len(jobs)) if i not in trained}
    if trained:
        members = [_member(jobs[i], config, starts[i] if starts else None) for i in trained]
        with packed(task.backbone, members, task.head, directions) as pack:
            training = _Training(task, pack, {i: jobs[i] for i in trained}, config, rungs or Rungs())
            outcomes |= training.run(on_step, sources)
    return [outcomes[i] for i in range(len(jobs))]


def score(
    task: Task, jobs: Sequence[Job], config: StudyConfig, starts: Sequence[Start], *, sources: Mapping[str, str]
) -> list[FineTuned]:
    """Scores adapters as they begin, side by side, without training them.

    Args:
        task: holds the frozen base model; it leaves as it came.
        jobs: each with a rank above 0; they share their split.
        config: the study file.
        starts: each job's adapter.
        sources: of each base model by its prefix, written into the saved adapters.
    """
    members = [_member(job, config, start) for job, start in zip(jobs, starts, strict=True)]
    with packed(task.backbone, members, task.head) as pack:
        started = time.perf_counter()
        evaluations = task.evaluate(jobs[0].split, len(jobs))
        seconds = (time.perf_counter() - started) / len(jobs)
        return [
            FineTuned(evaluation, (), seconds, pack.adapters(k, sources).save, rank_map=jobs[k].rank_map)
            for k, evaluation in enumerate(evaluations)
        ]


def out_of_time(config: StudyConfig, step: int) -> TrainingFailed:
    """The failure of a map whose time is over."""
    limit, steps = config.search.trial_minutes, config.training.steps
    return TrainingFailed(f"it took more than search.trial_minutes, {limit:g}, by step {step} of {steps}", "time limit")


def _member(job: Job, config: StudyConfig, start: Start | None) -> Member:
    adapter = config.tuned(job.settings).adapter
    if start is not None and start.scale is not None:
        adapter = adapter.model_copy(update={"scale": "constant", "alpha": start.scale})
    return Member(job.rank_map, adapter, job.seed, start)


@dataclass(frozen=True)
class Rehearsal:
    """A few steps of a pack, which were trained for nothing but to see what they take.

    Attributes:
        seconds: of each of the first steps.
        flops: of each of these steps, by `step_flops`.
        activations: bytes that the step with the longest texts keeps for its backward pass.
    """

    seconds: tuple[float, ...]
    flops: tuple[float, ...]
    activations: int


def rehearse(task: Task, jobs: Sequence[Job], config: StudyConfig, steps: int) -> Rehearsal:
    """Takes a step on the longest texts and the first steps of a pack, and forgets them.

    Raises:
        TrainingFailed: a loss is not finite.
    """
    # Where A starts is nothing to what a step takes, so the directions that EVA needs are not asked for.
    adapter = config.adapter.model_copy(update={"init": InitConfig()})
    members = [Member(job.rank_map, adapter, job.seed) for job in jobs]
    with packed(task.backbone, members, task.head) as pack:
        return _Training(task, pack, dict(enumerate(jobs)), config, Rungs()).rehearse(steps, jobs)


class _Training:
    """One pack, from its first step to its scores."""

    def __init__(self, task: Task, pack: Pack, jobs: Mapping[int, Job], config: StudyConfig, rungs: Rungs) -> None:
        self._task = task
        self._pack = pack
        self._rungs = rungs
        first = next(iter(jobs.values()))
        self._common = config.tuned(first.settings).training
        self._data_seed = first.data_seed
        self._split = first.split
        self._courses = [
            _Course(place, job.number, Descent.of(pack.trained(k), config.tuned(job.settings).training))
            for k, (place, job) in enumerate(jobs.items())
        ]
        self._outcomes: dict[int, Outcome] = {}
        self._config = config

    def run(self, on_step: OnStep, sources: Mapping[str, str]) -> dict[int, Outcome]:
        """Trains and scores; returns what became of each job."""
        augmented = self._common.augmentation != "none"
        batches = self._task.training_batches(self._common.steps, self._data_seed, augmented=augmented)
        with self._computing_fast():
            for step, batch in enumerate(batches, start=1):
                with self._timed():
                    self._step(step, batch)
                on_step(step, self._loss())
                self._end_those_out_of_time(step)
                if step in self._rungs.steps and self._pack.active:
                    self._look(step)
                if not self._pack.active:
                    return self._outcomes
        with self._timed():
            evaluations = self._task.evaluate(self._split, len(self._pack.active))
        for k, evaluation in zip(self._pack.active, evaluations, strict=True):
            course = self._courses[k]
            save = self._pack.adapters(k, sources).save
            self._outcomes[course.place] = FineTuned(
                evaluation, tuple(course.losses), course.seconds, save, dict(course.rungs)
            )
        return self._outcomes

    def rehearse(self, steps: int, jobs: Sequence[Job]) -> Rehearsal:
        """Takes one step that warms up, on the batch that takes most memory, and then so many."""
        looked_at = min(max(self._common.steps, steps), _LOOKED_AT)
        longest = max(self._task.training_batches(looked_at, self._data_seed), key=self._tokens)
        seconds, flops = [], []
        with self._computing_fast():
            with counting_activations(self._task.backbone) as activations:
                self._step(1, longest)
            for step, batch in enumerate(self._task.training_batches(steps, self._data_seed), start=2):
                for failed in self._outcomes.values():
                    if isinstance(failed, TrainingFailed):
                        raise failed
                started = time.perf_counter()
                self._step(step, batch)  # it reads the losses, and so waits for the device
                seconds.append(time.perf_counter() - started)
                texts = self._task.texts(batch)
                flops.append(sum(step_flops(self._task.backbone, job.rank_map, texts).total for job in jobs))
        return Rehearsal(tuple(seconds), tuple(flops), activations())

    def _tokens(self, batch: Any) -> int:
        return sum(of.rows * of.length for texts in self._task.texts(batch).values() for of in texts)

    @contextmanager
    def _computing_fast(self) -> Iterator[None]:
        """The base model computes in the type of training, and adapters with it."""
        dtype = training_dtype(self._common.precision, next(self._task.backbone.parameters()).device)
        models = base_models(self._task.backbone)
        with frozen_in(self._task.backbone, dtype), eager_where_short(models, dtype):
            self._pack.compute_in(dtype)
            yield
        self._pack.compute_in(torch.float32)

    def _step(self, step: int, batch: Any) -> None:
        """Forward and backward for all maps at once, then each map's own update."""
        active = self._pack.active
        self._pack.train(dropout=True)
        losses = self._task.loss(batch, len(active))
        self._pack.train(dropout=False)
        values: list[float] = losses.tolist()
        for k, value in zip(active, values, strict=True):
            self._courses[k].losses.append(value)
            if not math.isfinite(value):
                self._outcomes[self._courses[k].place] = TrainingFailed(
                    f"the loss is {value} at step {step}; lower the learning rate or alpha", "not finite"
                )
        sound = [k for k, value in zip(active, values, strict=True) if math.isfinite(value)]
        if sound:
            losses[losses.isfinite()].sum().backward()  # type: ignore[no-untyped-call]
        for k in sound:
            self._courses[k].descent.step()
        self._pack.keep(sound)

    def _loss(self) -> float:
        """Mean over the maps in the pack of their last losses; NaN where none is left."""
        last = [self._courses[k].losses[-1] for k in self._pack.active]
        return sum(last) / len(last) if last else math.nan

    def _end_those_out_of_time(self, step: int) -> None:
        """Fails maps that have had more than their time; it is not looked at while texts are evaluated."""
        limit = 60 * (self._config.search.trial_minutes or math.inf)
        late = [k for k in self._pack.active if self._courses[k].seconds > limit]
        for k in late:
            self._outcomes[self._courses[k].place] = out_of_time(self._config, step)
        self._pack.keep([k for k in self._pack.active if k not in late])

    def _look(self, step: int) -> None:
        """Scores the maps as they are, and takes out those that have no prospect."""
        with self._timed():
            evaluations = self._task.evaluate("validation", len(self._pack.active))
        courses = [self._courses[k] for k in self._pack.active]
        for course, evaluation in zip(courses, evaluations, strict=True):
            course.rungs[step] = evaluation.score
        going_on = self._rungs.keep(step, {course.number: course.rungs[step] for course in courses})
        for course in courses:
            if course.number not in going_on:
                self._outcomes[course.place] = Stopped(dict(course.rungs), tuple(course.losses), course.seconds)
        self._pack.keep([k for k in self._pack.active if self._courses[k].number in going_on])

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Lets the maps that are in the pack now bear the time equally."""
        bearers = self._pack.active
        started = time.perf_counter()
        yield
        for k in bearers:
            self._courses[k].seconds += (time.perf_counter() - started) / len(bearers)
