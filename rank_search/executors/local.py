"""Training in this process: one model, one pack of adapters after another."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rank_search.adapters import Spectrum, Start, UnpackableError, eva_directions, eva_start, loaded
from rank_search.core.errors import InputError, TrainingFailed
from rank_search.core.job import FineTuned, Job
from rank_search.executors.protocol import Serial
from rank_search.study.faults import failure
from rank_search.training.adalora import train_adalora
from rank_search.training.memory import (
    forget_peak,
    give_back_memory,
    keep_freed_memory,
    memory_left,
    memory_needed,
)
from rank_search.training.supernet import Nested
from rank_search.training.trainer import fine_tune, rehearse, score

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence
    from pathlib import Path

    from rank_search.config import StudyConfig
    from rank_search.core.evaluation import Evaluation, Split
    from rank_search.core.job import OnStep, Outcome, Rungs
    from rank_search.core.space import Space
    from rank_search.executors.protocol import Pack
    from rank_search.tasks.base import Task


# Along the leading directions of their inputs, adapters learn fast. Times the study's learning rate: on the demo EVA
# scores 0.753 to 0.771 with 1, 0.772 to 0.782 with 1/2, and 0.781 to 0.785 with 1/4, from ranks 8 and 2.
_EVA_LEARNS_AT = 0.25
_TIMED = 2  # steps
_MEMORY = 0.8  # of what is left, that activations may take
_WORTH_IT = 0.95  # of the time of a smaller pack, above which a larger one is not worth its memory


@dataclass(frozen=True)
class _Begun:
    """A job that is ready to be trained.

    Attributes:
        job: with the ranks that it is trained at.
        start: where its training begins; None for the study's init rule.
        seconds: what it took to find these.
    """

    job: Job
    start: Start | None
    seconds: float

    def ended(self, outcome: Outcome) -> Outcome:
        """What became of it, with what went before."""
        if isinstance(outcome, FineTuned):
            return replace(outcome, rank_map=self.job.rank_map, seconds=self.seconds + outcome.seconds)
        return outcome


class LocalExecutor:
    """Trains jobs on the task's base model; implements `rank_search.executors.protocol.Executor`.

    Args:
        trains: False on the driver of a cluster, which only reads adapters.
    """

    in_process = True

    def __init__(self, config: StudyConfig, task: Task, space: Space, *, trains: bool = True) -> None:
        keep_freed_memory()
        self._config = config
        self._task = task
        self._sources = {prefix: model.source for prefix, model in config.base_models.items()}
        self._space = space
        self._device = next(task.backbone.parameters()).device
        self._serial = Serial(self.train)
        self._nested: Nested | None = None
        self._warm_start: Start | None = None
        self._spectra: dict[Path, Spectrum] = {}
        self._directions = None
        if trains and config.adapter.init.method == "eva":
            largest = space.uniform(space.ladder[-1])
            batches = task.calibration_batches(config.seed)
            self._directions = eva_directions(task.backbone, largest, config.adapter, batches)

    @property
    def room(self) -> int:
        """For one pack at a time."""
        return self._serial.room

    def begin(self, pack: Pack) -> None:
        """Puts a pack down, for `finish`."""
        self._serial.begin(pack)

    def finish(self) -> Sequence[tuple[Pack, Sequence[Outcome]]]:
        """Trains the pack."""
        return self._serial.finish()

    def close(self) -> None:
        """Nothing is held."""

    def choose_pack(self, most: int) -> int:
        """How many maps to train at once: doubled as long as a map's step gets cheaper and memory lasts.

        Args:
            most: no more than this.
        """
        largest = self._space.uniform(self._space.ladder[-1])
        jobs = [Job(largest, seed, data_seed=0) for seed in range(most)]
        memory = _MEMORY * memory_left(self._device)
        try:
            alone = rehearse(self._task, jobs[:1], self._config, _TIMED)
        except TrainingFailed:  # each trial will say so by itself
            return 1
        best, cheapest = 1, sum(alone.seconds)
        while 2 * best <= most and 2 * best * alone.activations < memory:
            try:
                larger = rehearse(self._task, jobs[: 2 * best], self._config, _TIMED)
            except RuntimeError:  # PyTorch has no more precise word for a lack of memory on a CPU
                break
            seconds = sum(larger.seconds) / (2 * best)
            if seconds > _WORTH_IT * cheapest:
                break
            best, cheapest = 2 * best, seconds
        return best

    def check_packs(self) -> None:
        """Checks that this model keeps the rows of several maps apart.

        Raises:
            InputError: it does not, and the study file asks for packs.
        """
        jobs = [Job(self._space.uniform(self._space.ladder[-1]), seed, data_seed=0) for seed in range(2)]
        try:
            rehearse(self._task, jobs, self._config, 0)
        except UnpackableError as error:
            nested = self._config.search.strategy == "nested"
            raise InputError(
                f"this model does not keep several maps apart ({error}); write {'finetune' if nested else '1'}",
                field="search.strategy" if nested else "search.pack",
            ) from None
        except RuntimeError:  # such as a lack of memory, which smaller packs meet
            return

    def nested(self, file: Path) -> Nested:
        """The study's super-adapter, kept in a file; fine-tunes of this executor can start from it."""
        self._nested = Nested(self._task, self._space, self._config, file, self._directions)
        return self._nested

    def spectrum(self, folder: Path) -> Mapping[str, Sequence[float]]:
        """Module → singular values of the change that a saved adapter makes, descending."""
        return self._spectrum(folder).values

    def _spectrum(self, folder: Path) -> Spectrum:
        if folder not in self._spectra:
            self._spectra[folder] = Spectrum.of(folder, self._task.backbone, self._config.adapter, self._task.head)
        return self._spectra[folder]

    def train(self, jobs: Sequence[Job], on_step: OnStep, rungs: Rungs | None = None) -> list[Outcome]:
        """Makes and scores the adapters of a pack of rank maps.

        Jobs that can't be trained on the same batches are packed apart. A pack in which something goes wrong is
        trained again in halves, down to single maps: memory may suffice for fewer, and an error is found to be one
        map's own.
        """
        packs: dict[Hashable, list[int]] = {}
        for i, job in enumerate(jobs):
            augmented = self._config.tuned(job.settings).training.augmentation
            together = {"truncated": job.source, "adalora": job.number}.get(job.recipe)
            packs.setdefault((job.data_seed, augmented, job.split, together), []).append(i)
        outcomes: dict[int, Outcome] = {}
        for places in packs.values():
            found = self._train_pack([jobs[i] for i in places], on_step, rungs)
            outcomes |= dict(zip(places, found, strict=True))
            give_back_memory()
        return [outcomes[i] for i in range(len(jobs))]

    def _failed(self, error: Exception) -> TrainingFailed:
        """What an error means for a map that is trained alone."""
        failed = failure(error)
        if failed.kind != "out of memory":
            return failed
        needed = memory_needed(error, self._device) / 2**30
        return TrainingFailed(f"{failed}; it takes more than {needed:.1f} GiB", failed.kind)

    def _train_pack(self, jobs: Sequence[Job], on_step: OnStep, rungs: Rungs | None) -> Sequence[Outcome]:
        forget_peak(self._device)
        try:
            return self._made(jobs, on_step, rungs)
        except Exception as error:  # whatever it is, it is for the study to record
            failed = self._failed(error)
        # Out here nothing holds on to the memory that the failed pack took.
        if len(jobs) == 1:
            return [failed]
        middle = len(jobs) // 2
        return [*self._train_pack(jobs[:middle], on_step, rungs), *self._train_pack(jobs[middle:], on_step, rungs)]

    def _made(self, jobs: Sequence[Job], on_step: OnStep, rungs: Rungs | None) -> Sequence[Outcome]:
        """What their recipe makes of jobs that are packed together."""
        first = jobs[0]
        if first.recipe == "adalora":
            return [train_adalora(self._task, first, self._config, sources=self._sources, on_step=on_step)]
        if first.recipe == "truncated" and first.source is not None:
            starts = [self._spectrum(first.source).start] * len(jobs)
            return score(self._task, jobs, self._config, starts, sources=self._sources)
        begun = [self._begun(job) for job in jobs]
        outcomes = fine_tune(
            self._task,
            [of.job for of in begun],
            self._config,
            sources=self._sources,
            directions=self._directions,
            starts=[of.start for of in begun],
            rungs=rungs,
            on_step=on_step,
        )
        return [of.ended(outcome) for of, outcome in zip(begun, outcomes, strict=True)]

    def _begun(self, job: Job) -> _Begun:
        started = time.perf_counter()
        given, start = self._started(job)
        return _Begun(given, start, time.perf_counter() - started)

    def _started(self, job: Job) -> tuple[Job, Start | None]:
        """A job with the ranks that it is trained at, and where its training begins."""
        if job.recipe == "warm" and self._nested is not None:
            self._warm_start = self._warm_start or self._nested.start()
            return job, self._warm_start
        if job.recipe == "eva":
            batches = self._task.calibration_batches(self._config.seed)
            rank_map, start = eva_start(self._task.backbone, job.rank_map, self._config.adapter, batches)
            training = self._config.training.with_adapters_at(_EVA_LEARNS_AT)
            rates = {"learning_rate": training.learning_rate, "head_learning_rate": training.rate_of_head}
            return replace(job, rank_map=rank_map, settings=rates), start
        return job, None

    def evaluate(self, adapter: Path | None, split: Split) -> Evaluation:
        """Scores a saved adapter, or the base model alone where there is none."""
        if adapter is None:
            return self._task.evaluate(split)[0]
        with loaded(self._task.backbone, adapter):
            return self._task.evaluate(split)[0]
