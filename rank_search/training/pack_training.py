"""Trains the maps of one pack: a forward and backward pass for all of them, then each map's own optimiser step."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from rank_search.adapters import base_models
from rank_search.core.errors import TrainingFailed
from rank_search.core.job import FineTuned
from rank_search.training.attention import eager_attention_if_short
from rank_search.training.cost import step_flops
from rank_search.training.memory import count_activations
from rank_search.training.optimiser import AdapterOptimiser
from rank_search.training.precision import frozen_weights_in, training_dtype

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rank_search.adapters import Pack
    from rank_search.config import StudyConfig
    from rank_search.core.job import Job, OnStep, Outcome
    from rank_search.tasks.base import Task

_MAX_BATCHES = 1000  # of which the one with the longest texts is chosen to measure the activations


def not_finite(loss: float, step: int) -> TrainingFailed:
    """The failure of a map whose loss is not finite."""
    return TrainingFailed(f"the loss is {loss} at step {step}; lower the learning rate or alpha", "not finite")


def out_of_time(config: StudyConfig, step: int) -> TrainingFailed:
    """The failure of a map that has reached the time limit."""
    limit, steps = config.search.trial_minutes, config.training.steps
    return TrainingFailed(f"it took more than search.trial_minutes, {limit:g}, by step {step} of {steps}", "time limit")


@dataclass(frozen=True)
class StepTiming:
    """Measurements of a few trial steps of a pack; the trained weights are thrown away.

    Attributes:
        seconds: time of each step.
        flops: floating-point operations of each step, by `step_flops`.
        activations: bytes that the step with the longest texts keeps for its backward pass.
    """

    seconds: tuple[float, ...]
    flops: tuple[float, ...]
    activations: int


@dataclass
class _MapTraining:
    """The training state of one map of a pack.

    Attributes:
        index: place of its job among the jobs of `rank_search.training.trainer.fine_tune`.
        optimiser: takes its steps.
        losses: loss of each step so far.
        seconds: its share of the wall clock so far.
    """

    index: int
    optimiser: AdapterOptimiser
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0


class PackTraining:
    """The training of one pack, from its first step to its scores.

    Args:
        task: holds the base model that the pack is injected into.
        pack: the adapters.
        jobs: the pack's jobs by their index, in the order of the pack's maps.
        config: the study file.
    """

    def __init__(self, task: Task, pack: Pack, jobs: Mapping[int, Job], config: StudyConfig) -> None:
        self._task = task
        self._pack = pack
        first = next(iter(jobs.values()))
        self._common = config.tuned(first.settings).training
        self._data_seed = first.data_seed
        self._split = first.split
        self._maps = [
            _MapTraining(index, AdapterOptimiser(pack.trainable(k), config.tuned(job.settings).training))
            for k, (index, job) in enumerate(jobs.items())
        ]
        self._outcomes: dict[int, Outcome] = {}
        self._config = config

    def run(self, on_step: OnStep, sources: Mapping[str, str]) -> dict[int, Outcome]:
        """Trains and scores; returns the outcome of each job by its index."""
        augmented = self._common.augmentation != "none"
        batches = self._task.training_batches(self._common.steps, self._data_seed, augmented=augmented)
        with self._training_precision():
            for step, batch in enumerate(batches, start=1):
                with self._timed():
                    self._step(step, batch)
                on_step(step, self._mean_loss())
                self._stop_late_maps(step)
                if not self._pack.active:
                    return self._outcomes
        with self._timed():
            evaluations = self._task.evaluate(self._split, len(self._pack.active))
        for k, evaluation in zip(self._pack.active, evaluations, strict=True):
            done = self._maps[k]
            save = self._pack.adapters(k, sources).save
            self._outcomes[done.index] = FineTuned(evaluation, tuple(done.losses), done.seconds, save)
        return self._outcomes

    def time_steps(self, steps: int, jobs: Sequence[Job]) -> StepTiming:
        """Takes a warm-up step on the batch with the longest texts, then times that many steps.

        Raises:
            TrainingFailed: a loss is not finite.
        """
        batches = min(max(self._common.steps, steps), _MAX_BATCHES)
        longest = max(self._task.training_batches(batches, self._data_seed), key=self._tokens)
        seconds, flops = [], []
        with self._training_precision():
            with count_activations(self._task.backbone) as activations:
                self._step(1, longest)
            for step, batch in enumerate(self._task.training_batches(steps, self._data_seed), start=2):
                for outcome in self._outcomes.values():
                    if isinstance(outcome, TrainingFailed):
                        raise outcome
                started = time.perf_counter()
                self._step(step, batch)  # it reads the losses, and so waits for the device
                seconds.append(time.perf_counter() - started)
                texts = self._task.batch_shapes(batch)
                flops.append(sum(step_flops(self._task.backbone, job.rank_map, texts).total for job in jobs))
        return StepTiming(tuple(seconds), tuple(flops), activations())

    def _tokens(self, batch: Any) -> int:
        return sum(texts.rows * texts.length for inputs in self._task.batch_shapes(batch).values() for texts in inputs)

    @contextmanager
    def _training_precision(self) -> Iterator[None]:
        """Makes the base model and the adapters compute in the precision of training."""
        dtype = training_dtype(self._common.precision, next(self._task.backbone.parameters()).device)
        models = base_models(self._task.backbone)
        with frozen_weights_in(self._task.backbone, dtype), eager_attention_if_short(models, dtype):
            self._pack.compute_in(dtype)
            yield
        self._pack.compute_in(torch.float32)

    def _step(self, step: int, batch: Any) -> None:
        """Runs forward and backward for all maps at once, then each map's own update."""
        active = self._pack.active
        self._pack.train(dropout=True)
        losses = self._task.loss(batch, len(active))
        self._pack.train(dropout=False)
        values: list[float] = losses.tolist()
        for k, value in zip(active, values, strict=True):
            self._maps[k].losses.append(value)
            if not math.isfinite(value):
                self._outcomes[self._maps[k].index] = not_finite(value, step)
        finite = [k for k, value in zip(active, values, strict=True) if math.isfinite(value)]
        if finite:
            losses[losses.isfinite()].sum().backward()  # type: ignore[no-untyped-call]
        for k in finite:
            self._maps[k].optimiser.step()
        self._pack.keep(finite)

    def _mean_loss(self) -> float:
        """Mean of the last losses of the maps in the pack; NaN if no map is left."""
        last = [self._maps[k].losses[-1] for k in self._pack.active]
        return sum(last) / len(last) if last else math.nan

    def _stop_late_maps(self, step: int) -> None:
        """Fails the maps that have used more than their time; called after each training step."""
        limit = 60 * (self._config.search.trial_minutes or math.inf)
        late = [k for k in self._pack.active if self._maps[k].seconds > limit]
        for k in late:
            self._outcomes[self._maps[k].index] = out_of_time(self._config, step)
        self._pack.keep([k for k in self._pack.active if k not in late])

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Divides the time equally among the maps that are in the pack at the beginning."""
        active = self._pack.active
        started = time.perf_counter()
        yield
        seconds = time.perf_counter() - started
        for k in active:
            self._maps[k].seconds += seconds / len(active)
