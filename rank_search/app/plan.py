"""What a study would search and cost, from a few timed steps."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING

import psutil

from rank_search.analysis.evidence import study_evidence
from rank_search.analysis.power import ASSUMED, Power, measured_spread, power
from rank_search.app.loading import head_parameters, load_study_task
from rank_search.core.candidate import Candidate
from rank_search.core.choice import Margin
from rank_search.core.errors import RankSearchError
from rank_search.core.job import Job
from rank_search.core.rivals import Rivals
from rank_search.core.seeds import batch_seed
from rank_search.models.library_logs import silence_library_logs
from rank_search.study.folder import StudyFolder
from rank_search.study.handle import Study
from rank_search.study.metadata import StudyMetadata, refuse_changed_settings
from rank_search.study.storage import find_study
from rank_search.training.cost import step_flops
from rank_search.training.trainer import time_steps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rank_search.analysis.evidence import Evidence
    from rank_search.config import StudyConfig
    from rank_search.core.space import Space
    from rank_search.tasks.base import Task

_TIMED_STEPS = 5  # the quickest is taken for all, as other work on the machine can only slow a step down
_BUSY_LOAD = 0.5  # load average for each core, above which times are not to be trusted
_QUICK_SECONDS = 5.0  # an evaluation below it is timed twice
_COUNTED_STEPS = 1000  # whose arithmetic is taken for that of all
_COMPARED = 4  # that are trained afresh for the verdict, at most


@dataclass(frozen=True)
class Estimate:
    """What a study would search, and what it would cost.

    Attributes:
        study: its name.
        space: the search space.
        head_parameters: trained in every trial, beside the adapters'.
        cut: kind of text → how many were cut, of how many.
        notes: what the data loses, what its parts share, what files leave open, and whether the machine was busy.
        trials: how many trials are planned in the space.
        baselines: how many baselines outside it are trained, and how many are scored alone.
        rate_trainings: trainings by which learning rates are chosen, at least.
        verdict_trainings: fresh trainings for the verdict, at most.
        step_flops: of one training step at the largest map, by arithmetic, mean over a trial's batches (its first
            thousand).
        flops_rate: floating-point operations a second that timed steps reached.
        step_seconds: one training step at the largest map, by these two.
        evaluation_seconds: one evaluation on the validation split.
        trial_seconds: a whole trial at the largest map.
        power: the differences that it can show.
    """

    study: str
    space: Space
    head_parameters: int
    cut: Mapping[str, tuple[int, int]]
    notes: tuple[str, ...]
    trials: int
    baselines: tuple[int, int]
    rate_trainings: int
    verdict_trainings: int
    step_flops: float
    flops_rate: float
    step_seconds: float
    evaluation_seconds: float
    trial_seconds: float
    power: Power

    @property
    def seconds(self) -> float:
        """All of it, one map at a time, as if every map were the largest."""
        trained, scored = self.baselines
        trainings = self.trials + self.rate_trainings + trained + self.verdict_trainings
        return trainings * self.trial_seconds + scored * self.evaluation_seconds


def estimate_study(config: StudyConfig) -> Estimate:
    """Reads the space off the model and times a few steps and one evaluation; writes nothing.

    Raises:
        InputError: settings or model are wrong.
    """
    silence_library_logs()
    load = psutil.getloadavg()[0]  # before this process adds to it
    task, space = load_study_task(config)
    job = Job(Candidate(space.uniform(space.ladder[-1])), seed=config.seed, data_seed=batch_seed(config.seed))
    timing = time_steps(task, [job], config, _TIMED_STEPS)
    rate = max(flops / seconds for flops, seconds in zip(timing.flops, timing.seconds, strict=True))
    steps = config.training.steps
    batches = task.training_batches(min(steps, _COUNTED_STEPS), job.data_seed)
    flops = mean(step_flops(task.backbone, job.rank_map, task.batch_shapes(batch)).total for batch in batches)
    evaluation, selection = _evaluation(task)
    rivals = Rivals(space, config.search.baselines)
    return Estimate(
        study=config.study,
        space=space,
        head_parameters=head_parameters(task),
        cut=task.cut,
        notes=(*task.notes, *_machine_notes(load)),
        trials=config.search.trials,
        baselines=(len(rivals.all) - len(rivals.truncations), len(rivals.truncations)),
        rate_trainings=_rate_trainings(config, space, has_head=bool(task.head)),
        verdict_trainings=_COMPARED * config.search.verdict_seeds,
        step_flops=flops,
        flops_rate=rate,
        step_seconds=flops / rate,
        evaluation_seconds=evaluation,
        trial_seconds=steps * flops / rate + evaluation,
        power=_power(config, task, selection),
    )


def _evaluation(task: Task) -> tuple[float, int]:
    """Time of one evaluation, of the quicker of two where that takes little; and its examples for the choice alone."""

    def timed() -> tuple[float, int]:
        started = time.perf_counter()
        (evaluation,) = task.evaluate("validation")
        return time.perf_counter() - started, evaluation.selection

    first = timed()
    return min(first, timed()) if first[0] < _QUICK_SECONDS else first


def _rate_trainings(config: StudyConfig, space: Space, *, has_head: bool) -> int:
    """Trainings by which learning rates are chosen, where the best ones lie within those that are tried.

    The one of twice the steps counts as two.
    """
    if not config.search.tune_uniform or "learning_rate" in space.joint:
        return 0
    maps = len({min(filter(None, space.ladder)), space.ladder[-1]}) + has_head
    return maps * len({1.0, *config.search.tune_uniform}) + 2


def _power(config: StudyConfig, task: Task, selection: int) -> Power:
    """What the study can show: as its own maps spread, where some are trained already."""
    evidence = _evidence(config)
    accepted = Margin.parse(config.choice.margin)
    margin = None if accepted.is_share else accepted.value
    if evidence is not None and evidence.uniform:
        margin = accepted.of_gain(evidence.gain)
    spread = measured_spread(evidence) if evidence is not None else None
    choice = selection or task.examples_in("validation") // 2
    return power(choice, task.examples_in("test"), config.search.verdict_seeds, margin, spread or ASSUMED)


def _evidence(config: StudyConfig) -> Evidence | None:
    """What the study of this file has shown so far; None where it has not begun, or one of its name is another.

    A study of an older schema is not looked at: to open it would migrate it, and this writes nothing.
    """
    folder = StudyFolder.named(config.study)
    try:
        if (found := find_study(folder, None)) is None or (metadata := StudyMetadata.read(found)) is None:
            return None
        refuse_changed_settings(metadata.config, config.continuing(metadata.config).frozen())
        return study_evidence(Study(found, metadata, folder))
    except RankSearchError:
        return None


def _machine_notes(load: float) -> list[str]:
    cores = psutil.cpu_count() or 1
    if load <= _BUSY_LOAD * cores:
        return []
    return [f"the machine was busy already (load {load:.1f} on {cores} cores): a free one takes less time than this"]
