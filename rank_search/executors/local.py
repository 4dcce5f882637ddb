"""Training in this process: one model, one adapter after another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rank_search.adapters import eva_directions, loaded
from rank_search.training.trainer import fine_tune

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rank_search.config import StudyConfig
    from rank_search.space import Space
    from rank_search.tasks.base import Evaluation, Split, Task
    from rank_search.training.result import FineTuned, Job


class LocalExecutor:
    """Trains jobs on the task's base model; implements `rank_search.search.loop.Executor`."""

    def __init__(self, config: StudyConfig, task: Task, space: Space) -> None:
        self._config = config
        self._task = task
        self._sources = {prefix: model.source for prefix, model in config.base_models.items()}
        self._directions = None
        if config.adapter.init.method == "eva":
            largest = space.uniform(space.ladder[-1])
            batches = task.calibration_batches(config.seed)
            self._directions = eva_directions(task.backbone, largest, config.adapter, batches)

    def train(self, job: Job, on_step: Callable[[int], None]) -> FineTuned:
        """Fine-tunes and scores one rank map.

        Raises:
            TrainingFailed: it gave no finite score.
        """
        config = self._config.tuned(job.settings)
        return fine_tune(
            self._task,
            job,
            config.adapter,
            config.training,
            sources=self._sources,
            directions=self._directions,
            on_step=on_step,
        )

    def evaluate(self, adapter: Path | None, split: Split) -> Evaluation:
        """Scores a saved adapter, or the base model alone where there is none."""
        if adapter is None:
            return self._task.evaluate(split)
        with loaded(self._task.backbone, adapter):
            return self._task.evaluate(split)
