"""The commands that need the model: from a study file to a finished study, and the plan of one."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import optuna
import psutil
import transformers

from rank_search.analysis.verdict import Contest
from rank_search.errors import RankSearchError
from rank_search.executors.local import LocalExecutor
from rank_search.files import write_text
from rank_search.models import choose_device, load_retriever, skeleton
from rank_search.search.loop import Search, orphaned, wants_more
from rank_search.search.progress import ProgressBar
from rank_search.search.record import StudyRecord, environment, refuse_change
from rank_search.search.storage import StudyFolder, create_study, find_study
from rank_search.search.table import trials_table
from rank_search.space import build_space
from rank_search.tasks.retrieval import RetrievalTask
from rank_search.tasks.stdlib_corpus import load_stdlib_pairs
from rank_search.training.result import Job

if TYPE_CHECKING:
    from optuna import Study
    from rich.console import Console

    from rank_search.analysis.trials import ScoredTrial
    from rank_search.config import StudyConfig
    from rank_search.space import Space
    from rank_search.tasks.base import Evaluation
    from rank_search.tasks.stdlib_corpus import PairedData


@dataclass(frozen=True)
class Finished:
    """A study as `run_study` leaves it."""

    study: Study
    record: StudyRecord
    folder: StudyFolder


def run_study(config: StudyConfig, file: str, storage: str | None, console: Console) -> Finished:
    """Runs or resumes a study, then measures its choice on the test split.

    Everything is checked before anything is written.

    Args:
        config: the study file.
        file: its name, for error messages.
        storage: URL of another storage than the study's own SQLite file.
        console: where progress goes.

    Raises:
        InputError: settings, model or data are wrong, or differ from those the study was begun with.
        SearchStopped: too many trials failed in a row.
    """
    _quiet()
    folder = StudyFolder.of(config.study)
    known = find_study(folder, storage)
    if known is not None:
        study, kept = known
        refuse_change(dict(kept.config), config.frozen(), file)
        if _is_done(study, kept, config, folder):
            console.print(f"{config.study}: all {len(study.trials)} trials are finished; nothing to train")
            return Finished(study, kept, folder)
    with console.status(f"reading {config.task.data} and {config.model.source}"):
        space = build_space(skeleton(config.model), config.space)
        data = load_stdlib_pairs(config.task.validation_size, config.task.test_size)
        if known is not None:
            refuse_change(kept.data_fingerprint, data.fingerprint, file, "task.data")
        task = _load_task(config, data)
        if known is not None:
            refuse_change(kept.model_fingerprint, task.fingerprint, file, "model.source")
    record = kept if known else _new_record(config, space, data, task)
    with folder.locked():
        study = create_study(folder, storage)
        if known is None:
            record.write(study)
        write_text(folder.path / "study.yaml", config.to_yaml())
        finished = Finished(study, record, folder)
        _search(finished, config, space, task, console)
    return finished


def _is_done(study: Study, record: StudyRecord, config: StudyConfig, folder: StudyFolder) -> bool:
    """Whether a run would find nothing to do: no trial to train, and the choice measured already."""
    trials = study.get_trials(deepcopy=False)
    if orphaned(trials) or wants_more(trials, config.search.trials, record.space_size):
        return False
    return bool(folder.read_test(Contest.of(trials_table(study, record)).numbers))


def _load_task(config: StudyConfig, data: PairedData) -> RetrievalTask:
    return RetrievalTask(config.task, config.training, data, load_retriever(config.model))


def _new_record(config: StudyConfig, space: Space, data: PairedData, task: RetrievalTask) -> StudyRecord:
    return StudyRecord(
        config=config.frozen(),
        shapes=space.shapes,
        dimensions=space.dimensions,
        ladder=space.ladder,
        fan_in_fan_out=space.fan_in_fan_out,
        data_fingerprint=data.fingerprint,
        model_fingerprint=task.fingerprint,
        environment=environment(str(choose_device(config.model))),
    )


def _search(begun: Finished, config: StudyConfig, space: Space, task: RetrievalTask, console: Console) -> None:
    """Trains what is left to train, measures the choice, and says what it cost."""
    executor = LocalExecutor(config, task, space)
    with ProgressBar(console, begun.study, config.search.trials, config.training.steps) as progress:
        search = Search(begun.study, begun.folder, config, space, executor, progress)
        search.run()
    finished = len(begun.study.get_trials(deepcopy=False))
    if finished < config.search.trials:
        console.print(
            f"every map of the space is trained: {finished} trials, fewer than the {config.search.trials} asked"
        )
    started = time.perf_counter()
    _measure_choice(begun, executor, task)
    busy = search.busy + time.perf_counter() - started
    wall = time.time() - psutil.Process().create_time()
    console.print(f"{wall:.0f} s since the start of this process, {busy / wall:.0%} of it training and evaluation")


def _measure_choice(begun: Finished, executor: LocalExecutor, task: RetrievalTask) -> None:
    """Scores the untrained model, the chosen map and its uniform rival on the test split."""
    contest = Contest.of(trials_table(begun.study, begun.record))
    if begun.folder.read_test(contest.numbers):
        return
    untrained = executor.evaluate(None, "test")

    def measured(trial: ScoredTrial) -> Evaluation:
        if trial.trainable_parameters == 0:
            return untrained
        adapter = begun.folder.adapter(trial.number)
        if not adapter.is_dir():
            raise RankSearchError(f"{adapter}: the adapter of trial {trial.number} is gone, so it can't be tested")
        return executor.evaluate(adapter, "test")

    evaluations = {"untrained": untrained, "chosen": measured(contest.chosen)}
    if contest.baseline is not None:
        same = contest.baseline == contest.chosen
        evaluations["baseline"] = evaluations["chosen"] if same else measured(contest.baseline)
    begun.folder.write_test(
        contest.numbers,
        {
            "values": {name: evaluation.values[evaluation.metric] for name, evaluation in evaluations.items()},
            "examples": [asdict(example) for example in task.examples("test", untrained, evaluations["chosen"])],
        },
    )


@dataclass(frozen=True)
class Plan:
    """What a study would search, and what it would cost.

    Attributes:
        study: its name.
        space: the search space.
        trials: how many trials are planned.
        step_seconds: one training step at the largest map.
        evaluation_seconds: one evaluation on the validation split.
        trial_seconds: a whole trial at the largest map.
    """

    study: str
    space: Space
    trials: int
    step_seconds: float
    evaluation_seconds: float
    trial_seconds: float


def plan_study(config: StudyConfig) -> Plan:
    """Reads the space off the model and times one step and one evaluation; writes nothing.

    Raises:
        InputError: settings or model are wrong.
    """
    _quiet()
    space = build_space(skeleton(config.model), config.space)
    data = load_stdlib_pairs(config.task.validation_size, config.task.test_size)
    task = _load_task(config, data)
    # The first step warms up; the second is the one that counts.
    brief = config.model_copy(update={"training": config.training.model_copy(update={"steps": 2})})
    moments: list[float] = []
    job = Job(space.uniform(space.ladder[-1]), seed=config.seed, data_seed=config.seed)
    LocalExecutor(brief, task, space).train(job, lambda _steps: moments.append(time.perf_counter()))
    evaluation = time.perf_counter() - moments[1]
    step = moments[1] - moments[0]
    trial = config.training.steps * step + evaluation
    return Plan(config.study, space, config.search.trials, step, evaluation, trial)


def _quiet() -> None:
    """Keeps the libraries' own bars and chatter off the screen; warnings stay."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
