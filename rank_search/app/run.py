"""The commands that need the model: from a study file to a finished study, and the plan of one."""

from __future__ import annotations

import time
import uuid
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from optuna.trial import TrialState

from rank_search.analysis.choice import DEFAULT_RULE, Rule, choose
from rank_search.analysis.comparison import Contest
from rank_search.analysis.maps import probabilities, study_maps
from rank_search.app.display import Display
from rank_search.app.time_left import Workload
from rank_search.config import StudyConfig
from rank_search.core.errors import RankSearchError, TrainingFailed
from rank_search.core.files import write_text
from rank_search.core.job import FineTuned
from rank_search.core.rank_curve import RankCurve
from rank_search.core.ranks import RankMap
from rank_search.executors.local import LocalExecutor
from rank_search.models.modules import build_space
from rank_search.models.quiet import quiet
from rank_search.models.source import choose_device
from rank_search.report.trackers import Trackers, check_installed
from rank_search.search.contender import Contender
from rank_search.search.fresh_trainings import Confirmation
from rank_search.search.loop import Search, data_seed, job_of
from rank_search.search.nested import NESTED, NestedSearch
from rank_search.search.rivals.rivals import NAME, Baselines
from rank_search.search.schedule import Plan
from rank_search.study.faults import patiently
from rank_search.study.leases import Leases
from rank_search.study.lock import Drivers
from rank_search.study.metadata import StudyRecord, environment, refuse_change
from rank_search.study.storage import BESIDE, StudyFolder, check_storage, create_study, find_study, is_shared
from rank_search.study.table import trials_table
from rank_search.tasks.load import load_skeleton, load_task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study
    from rich.console import Console

    from rank_search.analysis.trials import ScoredTrial
    from rank_search.core.evaluation import Evaluation
    from rank_search.core.space import Space
    from rank_search.executors.protocol import Executor
    from rank_search.executors.ray_cluster import RayExecutor
    from rank_search.tasks.base import Task

_LARGEST_PACK = 16
_RIVALS = 3  # contenders of a verdict, the chosen map among them: two to four, as one map may have several roles
_POLL = 2.0  # seconds between two looks at what another driver does


@dataclass(frozen=True)
class Finished:
    """A study as `run_study` leaves it."""

    study: Study
    record: StudyRecord
    folder: StudyFolder

    def contest(self) -> Contest:
        """The chosen map and its rivals."""
        return Contest.of(study_maps(self.study, self.record, self.folder), trials_table(self.study, self.record))


def run_study(config: StudyConfig, storage: str | None, console: Console) -> Finished | None:
    """Runs or resumes a study, then measures its choice on the test split.

    Everything is checked before anything is written. Returns None where another driver of the same study does what
    comes after its trials.

    Args:
        config: the study file.
        storage: URL of another storage than the study's own SQLite file.
        console: where progress goes.

    Raises:
        InputError: settings, model or data are wrong, or differ from those the study was begun with.
        SearchStopped: too many trials failed in a row.
    """
    quiet()
    check_installed(config.trackers)
    folder = StudyFolder.of(config.study)
    if (known := find_study(folder, storage)) is not None:
        study, record = known
        folder.check_owner(record)
        refuse_change(dict(record.config), config.frozen())
        if _is_done(study, record, config, folder):
            Trackers(config.trackers, study, folder, record.space, partial(console.print, markup=False)).send()
            console.print(f"{config.study}: all {len(study.trials)} trials are finished; nothing to train")
            return Finished(study, record, folder)
    check_storage(folder, storage)
    with console.status(f"reading {config.task.data.source} and {config.model.source}"):
        task, space = load_study_task(_on_driver(config))
        _prior(config, space)  # so that a wrong file is found now
        given = _new_record(config, space, task)
        if known is not None:
            _refuse_other(known[1], given)
    _say_what_is_cut(task, console)
    with closing(_executor(config, task, space)) as executor:
        return _run(config, storage, console, given, task, executor)


def _run(
    config: StudyConfig,
    storage: str | None,
    console: Console,
    given: StudyRecord,
    task: Task,
    executor: LocalExecutor | RayExecutor,
) -> Finished | None:
    """Runs or resumes a study whose settings, model and data are checked."""
    folder, space = StudyFolder.of(config.study), given.space
    if config.search.strategy == "nested" or config.search.pack not in (1, "auto"):
        executor.check_packs()
    with folder.locked(shared=is_shared(storage)):
        study = create_study(folder, storage)
        drivers = Drivers(storage or folder.url, study.study_name)
        with drivers.alone():
            record = _begun(study, given)
            folder.claim(record)
            write_text(folder.path / "study.yaml", config.to_yaml())
        finished = Finished(study, record, folder)
        display = Display(console, study, workload(config, space, task), config.training.steps)
        with display as progress, Leases(drivers.alone) as parts:
            pack = _pack(study, config, executor, console)
            nested = None
            if config.search.strategy == "nested":
                scores, scorer = create_study(folder, storage, BESIDE), executor.nested(folder.super_adapter)
                nested = NestedSearch(scores, config, space, scorer, progress, data_seed(config.seed), pack)
                while not _took(parts, drivers, study, NESTED):
                    progress.waiting("another driver works on nested scores")
                    time.sleep(_POLL)
                nested.run()
                study.set_user_attr(NESTED, nested.cost)
                parts.let_go_part(NESTED)
            plan = _plan_of(finished, config, executor, nested)
            sole = storage is None
            trackers = Trackers(config.trackers, study, folder, space, partial(console.print, markup=False))
            Search(study, folder, config, space, executor, progress, plan, drivers, pack, sole, trackers.send).run()
            if not _took(parts, drivers, study, "verdict"):
                console.print("all trials are finished; another driver trains for the verdict, and writes the report")
                return None
            _confirm(finished, config, executor, progress)
            _measure_choice(finished, executor, task)
            parts.let_go_part("verdict")
            trackers.send()  # what an earlier run left, or another driver told while one was sending
        if nested is not None and nested.misleads(study.get_trials(deepcopy=False)):
            console.print("nested scores put maps in another order than fine-tunes: the sampler proposed the rest")
        _say_if_exhausted(study, config, console)
        _say_cost(console)
    return finished


def _begun(study: Study, given: StudyRecord) -> StudyRecord:
    """The study's record; ours, if no other driver has begun the study since it was looked for."""
    if (record := StudyRecord.read(study)) is not None:
        _refuse_other(record, given)
        return record
    given.write(study)
    return given


def _took(parts: Leases, drivers: Drivers, study: Study, part: str) -> bool:
    """Whether a part of the study is this driver's to do."""

    def take() -> bool:
        with drivers.alone():
            return parts.take_part(study, part)

    return patiently(take)


def retrain(begun: Finished, number: int, console: Console) -> None:
    """Trains a finished trial again, as it was trained, and keeps its adapter.

    It is the same map, seed and batches. The score is that of the trial, but for the last bits of floating-point
    sums, which depend on how many maps are trained at once, and on the machine; it is kept beside the trial's.

    Args:
        begun: the study.
        number: of the trial.
        console: where progress goes.

    Raises:
        InputError: the data or the base model have changed since.
        TrainingFailed: it can't be trained.
    """
    quiet()
    config = StudyConfig.model_validate(begun.record.config)
    folder, trial = begun.folder, begun.study.get_trials(deepcopy=False)[number]
    with console.status(f"reading {config.task.data.source} and {config.model.source}"):
        task, space = load_study_task(config)
        _refuse_other(begun.record, _new_record(config, space, task))
        executor = LocalExecutor(config, task, space)
    job = job_of(trial, config, space, folder)
    if job.recipe == "warm":
        executor.nested(folder.super_adapter)
    again = f"training trial {number} again"
    with folder.locked(), console.status(again) as shown:
        (outcome,) = executor.train(
            [job], lambda steps, _loss: shown.update(f"{again}: step {steps} of {config.training.steps}")
        )
        if isinstance(outcome, TrainingFailed):
            raise outcome
        if not isinstance(outcome, FineTuned) or outcome.save_adapter is None:
            raise TrainingFailed(f"trial {number} has nothing to train")
        outcome.save_adapter(folder.adapter(number))
        score, digests = outcome.evaluation.score, folder.adapter_digests(number)
        folder.write_result(number, {**folder.read_result(number), "adapter": digests, "retrained": score})
    console.print(f"trial {number} was trained again: {score:.4f}, and {trial.values[0]:.4f} in the search")


def _on_driver(config: StudyConfig) -> StudyConfig:
    """The study as the driver of a cluster loads it: what it does itself needs no device, which is a worker's."""
    if config.executor.kind == "local" or config.model.quantization == "4bit":
        return config
    return config.model_copy(update={"model": config.model.model_copy(update={"device": "cpu"})})


def _executor(config: StudyConfig, task: Task, space: Space) -> LocalExecutor | RayExecutor:
    """Who trains.

    Raises:
        InputError: the cluster can't be reached, or Ray is not installed.
    """
    if config.executor.kind == "local":
        return LocalExecutor(config, task, space)
    from rank_search.executors.ray_cluster import RayExecutor
    from rank_search.executors.ray_worker import Assignment

    cpus = config.executor.resources.get("cpu")
    threads = max(1, int(cpus)) if cpus else None
    return RayExecutor(
        config.executor,
        Assignment(config, task.data_fingerprint, task.fingerprint, str(Path.cwd()), threads),
        LocalExecutor(config, task, space, trains=False),
    )


def fingerprints(record: StudyRecord) -> tuple[str, str]:
    """Of the data and of the base model of a study, as they are now.

    Raises:
        InputError: they can't be loaded.
    """
    quiet()
    task, _ = load_study_task(StudyConfig.model_validate(record.config))
    return task.data_fingerprint, task.fingerprint


def _pack(study: Study, config: StudyConfig, executor: LocalExecutor | RayExecutor, console: Console) -> int:
    """How many maps to train at once; what ``auto`` finds is kept, since proposals depend on it."""
    if config.search.pack != "auto":
        return config.search.pack
    if (kept := study.user_attrs.get("pack")) is None:
        kept = executor.choose_pack(min(_LARGEST_PACK, config.search.trials))
        study.set_user_attr("pack", kept)
        console.print(f"search.pack: {kept}, by timing steps")
    return int(kept)


def _is_done(study: Study, record: StudyRecord, config: StudyConfig, folder: StudyFolder) -> bool:
    """Whether a run would find nothing to do: no trial to train or at work, and the choice measured already."""
    trials = study.get_trials(deepcopy=False)
    begun = Finished(study, record, folder)
    if any(trial.state == TrialState.RUNNING for trial in trials) or not _plan_of(begun, config).is_done(trials):
        return False
    contest = begun.contest()
    return bool(folder.read_test(contest.numbers)) and _confirmation(begun, config).is_done(_contenders(contest))


def _plan_of(
    begun: Finished,
    config: StudyConfig,
    executor: LocalExecutor | RayExecutor | None = None,
    nested: NestedSearch | None = None,
) -> Plan:
    """The plan of a study; without an executor it can say what is missing, and not make it."""

    def spectrum(trial: int) -> Mapping[str, Sequence[float]]:
        if executor is None:
            return {}
        begun.folder.check_adapter(trial)
        return executor.spectrum(begun.folder.adapter(trial))

    def front_probability() -> dict[int, float]:
        return probabilities(study_maps(begun.study, begun.record, begun.folder))

    def chosen_price() -> int | None:
        maps = study_maps(begun.study, begun.record, begun.folder)
        return None if maps.empty else choose(maps, Rule.parse(DEFAULT_RULE)).trainable_parameters

    space = begun.record.space
    return Plan(config, space, spectrum, front_probability, chosen_price, nested, _prior(config, space))


def _prior(config: StudyConfig, space: Space) -> RankMap | None:
    """The map nearest to the rank curve of another study, if one is named.

    Raises:
        InputError: the file is no rank curve.
    """
    return RankCurve.read(Path(config.space.prior)).rank_map(space) if config.space.prior else None


def workload(config: StudyConfig, space: Space, task: Task) -> Workload:
    """A whole study, baselines outside the space included."""
    maps = min(config.search.maps, space.size)
    baselines = Baselines(space, config.search.baselines)
    at_choice = 1 if baselines.truncations else 0
    return Workload(
        trials=int(maps) + config.search.repeats_planned + len(baselines.names) + at_choice,
        eva=len(Baselines(space, {"eva"} & set(config.search.baselines)).names),
        adalora=len(Baselines(space, {"adalora"} & set(config.search.baselines)).names),
        scored=len(baselines.truncations) + at_choice + (1 if space.ladder[0] == 0 and not task.head else 0),
        verdict=_RIVALS * config.search.verdict_seeds,
        measured=1 + _RIVALS,
        test_size=task.size("test") / task.size("validation"),
        head=bool(task.head),
    )


def _contenders(contest: Contest) -> list[Contender]:
    return [Contender(RankMap(of.ranks), of.settings) for of in contest.contenders.values()]


def _confirmation(begun: Finished, config: StudyConfig) -> Confirmation:
    return Confirmation(begun.folder, config.seed, config.search.verdict_seeds)


def _confirm(begun: Finished, config: StudyConfig, executor: Executor, progress: Display) -> None:
    """Trains the chosen map and its rivals on fresh seeds."""
    _confirmation(begun, config).run(_contenders(begun.contest()), executor, progress.verdict)


def _refuse_other(kept: StudyRecord, given: StudyRecord) -> None:
    """Checks that a study would go on with the settings, data and model that it was begun with.

    Raises:
        InputError: naming the first field that differs.
    """
    refuse_change(dict(kept.config), dict(given.config))
    refuse_change(kept.data_fingerprint, given.data_fingerprint, "task.data")
    refuse_change(kept.model_fingerprint, given.model_fingerprint, "model.source")


def load_study_task(config: StudyConfig) -> tuple[Task, Space]:
    """The task and what is searched; refuses what it can before weights are loaded."""
    build_space(load_skeleton(config), config)
    task = load_task(config)
    return task, build_space(task.backbone, config, task.head)


def _new_record(config: StudyConfig, space: Space, task: Task) -> StudyRecord:
    return StudyRecord(
        identity=uuid.uuid4().hex,
        config=config.frozen(),
        space=space,
        head=task.head,
        head_parameters=head_parameters(task),
        classes=task.classes,
        cut=task.cut,
        data_fingerprint=task.data_fingerprint,
        model_fingerprint=task.fingerprint,
        environment=environment(str(choose_device(config.model))),
    )


def head_parameters(task: Task) -> int:
    """Parameters of the modules that a task trains whole."""
    return sum(weight.numel() for name in task.head for weight in task.backbone.get_submodule(name).parameters())


def _say_what_is_cut(task: Task, console: Console) -> None:
    for kind, (cut, of) in task.cut.items():
        if cut:
            console.print(f"{cut:,} of {of:,} {kind} are longer than the study file or the model allows, and are cut")


def _say_if_exhausted(study: Study, config: StudyConfig, console: Console) -> None:
    trials = sum(NAME not in trial.user_attrs for trial in study.get_trials(deepcopy=False))
    if trials < config.search.trials:
        console.print(f"every map of the space is trained: {trials} trials of {config.search.trials} asked for")


def _say_cost(console: Console) -> None:
    console.print(f"{time.time() - psutil.Process().create_time():.0f} s since the start of this process")


def _measure_choice(begun: Finished, executor: LocalExecutor | RayExecutor, task: Task) -> None:
    """Scores the untrained model and the contenders' saved adapters on the test split."""
    contest = begun.contest()
    if begun.folder.read_test(contest.numbers):
        return
    untrained = executor.evaluate(None, "test")

    def measured(trial: ScoredTrial) -> Evaluation:
        adapter = begun.folder.adapter(trial.number)
        if adapter.is_dir():
            return executor.evaluate(adapter, "test")
        if trial.trainable_parameters == 0 and not begun.record.head:
            return untrained
        raise RankSearchError(
            f"{adapter}: the adapter of trial {trial.number} is gone; restore it, or train it again by export "
            f"--trial {trial.number} --to peft --retrain"
        )

    of_trial = {trial.number: trial for trial in contest.contenders.values()}
    scores = {number: measured(trial) for number, trial in of_trial.items()}
    evaluations = {"untrained": untrained, **{role: scores[number] for role, number in contest.numbers.items()}}
    begun.folder.write_test(
        contest.numbers,
        {
            "values": {name: evaluation.values[evaluation.metric] for name, evaluation in evaluations.items()},
            "metrics": {name: evaluation.means for name, evaluation in evaluations.items()},
            "examples": [asdict(example) for example in task.examples("test", untrained, evaluations["chosen"])],
        },
    )
