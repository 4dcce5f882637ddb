"""Trains in this process: one base model, one pack of adapters after another."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rank_search.adapters import AdapterInit, Spectrum, UnpackableError, eva_directions, eva_init, loaded
from rank_search.core.candidate import CUTS, Candidate
from rank_search.core.errors import InputError, TrainingFailed
from rank_search.core.job import FineTuned, Job
from rank_search.executors.protocol import Serial
from rank_search.models.restoring import restored
from rank_search.study.faults import failure
from rank_search.training.adalora import train_adalora
from rank_search.training.memory import (
    available_memory,
    memory_needed,
    release_memory,
    reset_peak_memory,
    retain_freed_memory,
)
from rank_search.training.trainer import fine_tune, score, time_steps

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from rank_search.config import StudyConfig
    from rank_search.core.evaluation import Evaluation, Split
    from rank_search.core.job import OnStep, Outcome
    from rank_search.core.space import Space
    from rank_search.executors.protocol import Pack
    from rank_search.tasks.base import Task


# EVA's adapters start along the leading directions of their inputs, so they learn fast. This factor multiplies the
# study's learning rate: on the demo EVA scores 0.753 to 0.771 with 1, 0.772 to 0.782 with 1/2, and 0.781 to 0.785 with
# 1/4, from ranks 8 and 2.
_EVA_LEARNING_RATE_FACTOR = 0.25
_TIMED_STEPS = 2
_MEMORY_SHARE = 0.8  # of the available memory, that activations may take
_MAX_TIME_RATIO = (
    0.95  # time of a map's step in a larger pack ÷ that in a smaller pack; above it the smaller one is kept
)


@dataclass(frozen=True)
class _PreparedJob:
    """A job that is ready to be trained.

    Attributes:
        job: the job, with the ranks that it is trained at.
        init: the initial adapter; None for the study's init rule.
        seconds: time of the preparation.
    """

    job: Job
    init: AdapterInit | None
    seconds: float

    def complete(self, outcome: Outcome) -> Outcome:
        """Adds the ranks and the preparation's time to an outcome."""
        if isinstance(outcome, FineTuned):
            return replace(outcome, rank_map=self.job.rank_map, seconds=self.seconds + outcome.seconds)
        return outcome


class LocalExecutor:
    """Trains jobs on the task's base model; implements `rank_search.executors.protocol.Executor`.

    Args:
        trains: False on the driver of a cluster, where this executor only reads adapters.
    """

    in_process = True

    def __init__(self, config: StudyConfig, task: Task, space: Space, *, trains: bool = True) -> None:
        retain_freed_memory()
        self._config = config
        self._task = task
        self._sources = {prefix: model.source for prefix, model in config.base_models.items()}
        self._space = space
        self._device = next(task.backbone.parameters()).device
        self._serial = Serial(self.train)
        self._spectra: dict[Path, Spectrum] = {}
        self._large: tuple[tuple[str, int, int], Spectrum] | None = (
            None  # the last one that was trained to be truncated
        )
        self._directions = None
        if trains and config.adapter.init.method == "eva":
            largest = space.uniform(space.ladder[-1])
            batches = task.calibration_batches(config.seed)
            self._directions = eva_directions(task.backbone, largest, config.adapter, batches)

    @property
    def free_slots(self) -> int:
        """1, or 0 while a pack is submitted."""
        return self._serial.free_slots

    def submit(self, pack: Pack) -> None:
        """Stores a pack; `wait` trains it."""
        self._serial.submit(pack)

    def wait(self) -> Sequence[tuple[Pack, Sequence[Outcome]]]:
        """Trains the submitted pack."""
        return self._serial.wait()

    def close(self) -> None:
        """Does nothing: this executor holds no workers."""

    def choose_pack(self, most: int) -> int:
        """Finds how many maps to train at once: doubles the number while a map's step gets faster and memory suffices.

        Args:
            most: upper bound of the result.
        """
        largest = self._space.uniform(self._space.ladder[-1])
        jobs = [Job(Candidate(largest), seed, data_seed=0) for seed in range(most)]
        memory = _MEMORY_SHARE * available_memory(self._device)
        try:
            alone = time_steps(self._task, jobs[:1], self._config, _TIMED_STEPS)
        except TrainingFailed:  # each trial will fail with this reason
            return 1
        best, cheapest = 1, sum(alone.seconds)
        while 2 * best <= most and 2 * best * alone.activations < memory:
            try:
                larger = time_steps(self._task, jobs[: 2 * best], self._config, _TIMED_STEPS)
            except RuntimeError:  # out of memory; PyTorch raises no narrower error for it on a CPU
                break
            seconds = sum(larger.seconds) / (2 * best)
            if seconds > _MAX_TIME_RATIO * cheapest:
                break
            best, cheapest = 2 * best, seconds
        return best

    def check_packs(self) -> None:
        """Checks that this model keeps the rows of several maps apart, as packs need.

        Raises:
            InputError: it does not.
        """
        largest = self._space.uniform(self._space.ladder[-1])
        jobs = [Job(Candidate(largest), seed, data_seed=0) for seed in range(2)]
        try:
            time_steps(self._task, jobs, self._config, 0)
        except UnpackableError as error:
            raise InputError(
                f"this model does not keep several maps apart ({error}); write 1", field="search.pack"
            ) from None
        except RuntimeError:  # such as out of memory, for which training falls back to smaller packs
            return

    def spectrum(self, folder: Path) -> Mapping[str, Sequence[float]]:
        """Module → singular values of a saved adapter's ΔW, descending."""
        return self._spectrum(folder).values

    def _spectrum(self, folder: Path) -> Spectrum:
        if folder not in self._spectra:
            adapter, head = self._config.adapter, self._task.head
            self._spectra[folder] = Spectrum.from_folder(folder, self._task.backbone, adapter, head)
        return self._spectra[folder]

    def _source_spectrum(self, job: Job) -> Spectrum:
        """Of the adapter that a job truncates, which is trained first where it is not on disk.

        Raises:
            TrainingFailed: it can't be trained.
        """
        if job.source is not None:
            return self._spectrum(job.source)
        if job.large is None:
            raise TrainingFailed("the adapter that it truncates is not on record")
        large = replace(job, candidate=job.large, large=None)
        key = (job.large.key, job.seed, job.data_seed)
        if self._large is None or self._large[0] != key:
            (outcome,) = fine_tune(self._task, [large], self._config, sources=self._sources)
            if not isinstance(outcome, FineTuned) or outcome.save_adapter is None:
                raise outcome if isinstance(outcome, TrainingFailed) else TrainingFailed("nothing was trained")
            with TemporaryDirectory(prefix="rank_search-") as folder:
                outcome.save_adapter(Path(folder) / "adapter")
                adapter, head = self._config.adapter, self._task.head
                spectrum = Spectrum.from_folder(Path(folder) / "adapter", self._task.backbone, adapter, head)
            self._large = key, spectrum
        return self._large[1]

    def train(self, jobs: Sequence[Job], on_step: OnStep) -> list[Outcome]:
        """Trains and scores the adapters of a pack of rank maps.

        Jobs that can't be trained on the same batches are trained in separate packs. If a pack fails, it is trained
        again in halves, down to single maps: memory may suffice for fewer maps, and only the map that causes an error
        should fail.
        """
        packs: dict[Hashable, list[int]] = {}
        for i, job in enumerate(jobs):
            training = self._config.tuned(job.settings).training
            together = (
                job.number if job.recipe == "adalora" else (job.source, job.large) if job.recipe in CUTS else None
            )
            own = job.recipe if job.recipe in CUTS else ""
            key = (job.data_seed, training.augmentation, training.steps, job.split, own, together)
            packs.setdefault(key, []).append(i)
        outcomes: dict[int, Outcome] = {}
        for places in packs.values():
            pack_outcomes = self._train_or_halve([jobs[i] for i in places], on_step)
            outcomes |= dict(zip(places, pack_outcomes, strict=True))
            release_memory()
        return [outcomes[i] for i in range(len(jobs))]

    def _to_failure(self, error: Exception) -> TrainingFailed:
        """The failure of a map that is trained alone and raises an error."""
        failed = failure(error)
        if failed.kind != "out of memory":
            return failed
        needed = memory_needed(error, self._device) / 2**30
        return TrainingFailed(f"{failed}; it takes more than {needed:.1f} GiB", failed.kind)

    def _train_or_halve(self, jobs: Sequence[Job], on_step: OnStep) -> Sequence[Outcome]:
        reset_peak_memory(self._device)
        try:
            with restored(self._task.backbone):
                return self._run_recipe(jobs, on_step)
        except Exception as error:  # the study records any failure
            failed = self._to_failure(error)
        # After the except block no traceback keeps the memory of the failed pack.
        if len(jobs) == 1:
            return [failed]
        middle = len(jobs) // 2
        halves = jobs[:middle], jobs[middle:]
        return [outcome for half in halves for outcome in self._train_or_halve(half, on_step)]

    def _run_recipe(self, jobs: Sequence[Job], on_step: OnStep) -> Sequence[Outcome]:
        """Trains or scores the jobs of one pack by their recipe."""
        first = jobs[0]
        if first.recipe == "adalora":
            return [train_adalora(self._task, first, self._config, sources=self._sources, on_step=on_step)]
        if first.recipe == "truncate":
            started = time.perf_counter()
            inits = [self._source_spectrum(first).init] * len(jobs)
            before = (time.perf_counter() - started) / len(jobs)
            cut = score(self._task, jobs, self._config, inits, sources=self._sources)
            return [replace(outcome, seconds=before + outcome.seconds) for outcome in cut]
        prepared = [self._prepare(job) for job in jobs]
        outcomes = fine_tune(
            self._task,
            [ready.job for ready in prepared],
            self._config,
            sources=self._sources,
            directions=self._directions,
            inits=[ready.init for ready in prepared],
            on_step=on_step,
        )
        return [ready.complete(outcome) for ready, outcome in zip(prepared, outcomes, strict=True)]

    def _prepare(self, job: Job) -> _PreparedJob:
        started = time.perf_counter()
        job_to_train, init = self._ranks_and_init(job)
        return _PreparedJob(job_to_train, init, time.perf_counter() - started)

    def _ranks_and_init(self, job: Job) -> tuple[Job, AdapterInit | None]:
        """The job with the ranks that it is trained at, and its initial adapter; None for the study's init rule."""
        if job.recipe == "recover":
            return job, self._source_spectrum(job).init
        if job.recipe == "eva":
            batches = self._task.calibration_batches(self._config.seed)
            rank_map, init = eva_init(self._task.backbone, job.rank_map, self._config.adapter, batches)
            training = self._config.tuned(job.settings).training.with_adapters_at(_EVA_LEARNING_RATE_FACTOR)
            rates = {"learning_rate": training.learning_rate, "head_learning_rate": training.rate_of_head}
            return job.at(rank_map, rates), init
        return job, None

    def evaluate(self, adapter: Path | None, split: Split) -> Evaluation:
        """Scores a saved adapter, or the base model if there is none."""
        if adapter is None:
            return self._task.evaluate(split)[0]
        with loaded(self._task.backbone, adapter):
            return self._task.evaluate(split)[0]
