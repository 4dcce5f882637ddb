"""Runs or resumes a study: learning rates, the search, then the verdict."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import psutil
from optuna.trial import TrialState

from rank_search.app.display import Display
from rank_search.app.executors import for_driver, make_executor, pack_size
from rank_search.app.extras import check_extras
from rank_search.app.loading import left_out_lines, load_study_task, new_metadata, read_prior, refuse_other
from rank_search.app.scheduling import make_schedule
from rank_search.app.time_left import whole_study
from rank_search.app.verdict import FreshVerdict, check_trained, is_measured, measure_on_test, train_afresh
from rank_search.core.errors import printable
from rank_search.core.files import write_text
from rank_search.core.job import no_callback
from rank_search.models.library_logs import silence_library_logs
from rank_search.report.trackers import Trackers
from rank_search.search.loop import Search
from rank_search.search.rate_search import RateSearch
from rank_search.study.faults import patiently
from rank_search.study.folder import StudyFolder
from rank_search.study.handle import Study
from rank_search.study.leases import Leases
from rank_search.study.lock import ExclusiveLock
from rank_search.study.metadata import StudyMetadata, has_moved, refuse_changed_settings
from rank_search.study.storage import check_storage, create_study, is_shared

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from rank_search.config import StudyConfig
    from rank_search.executors.local import LocalExecutor
    from rank_search.executors.ray_cluster import RayExecutor
    from rank_search.tasks.base import Task

    OnEnd = Callable[[Study], None]
    Check = Callable[[str, StudyMetadata], None]

_POLL = 2.0  # seconds between two looks at what another driver does
_RATES, _VERDICT = "rates", "verdict"  # parts of a study that one driver does for all


def run_study(
    config: StudyConfig,
    storage: str | None,
    console: Console,
    on_end: OnEnd = no_callback,
    check: Check = no_callback,
) -> Study | None:
    """Runs or resumes a study, then measures its choice on the test split.

    Everything is checked before anything is written. Returns None where another driver of the same study does what
    comes after its trials.

    Args:
        config: the study file.
        storage: URL of another storage than the study's own SQLite file.
        console: where progress goes.
        on_end: called with the finished study while no other driver does what comes after its trials.
        check: called with the study's name and metadata before it starts or goes on; raises where ``on_end`` would
            fail.

    Raises:
        InputError: an extra is missing, or settings, model or data are wrong, or differ from those that the study was
            started with.
        SearchStopped: too many trials failed in a row, or all trainings did.
    """
    silence_library_logs()
    check_extras(config)
    folder = StudyFolder.named(config.study)
    if (known := Study.find(folder, storage)) is not None:
        config = config.continuing(known.metadata.config)
        refuse_changed_settings(known.metadata.config, config.frozen())
        if not has_moved(known.metadata.config, config.frozen()) and _is_done(known, config):
            check_trained(known)
            _trackers(known, config, console).send()
            console.print(f"{config.study}: all {len(known.trials())} trials are finished; nothing to train")
            on_end(known)
            return known
    check_storage(folder, storage)
    with console.status(f"reading {config.task.data.source} and {config.model.source}"):
        task, space = load_study_task(for_driver(config))
        read_prior(config, space)  # so that a wrong file is found now
        given = new_metadata(config, space, task)
        if known is not None:
            refuse_other(known.metadata, given)
    for line in left_out_lines(space):
        console.print(line, markup=False)
    _print_notes(task, console)
    with closing(make_executor(config, task, space)) as executor:
        if config.search.pack not in (1, "auto"):
            executor.check_packs()
        with folder.locked(shared=is_shared(storage)):
            study = _started(config, given, folder, storage, check)
            return _Run(study, config, console, task, executor, on_end).to_the_end()


def _started(
    config: StudyConfig, given: StudyMetadata, folder: StudyFolder, storage: str | None, check: Check
) -> Study:
    """The study, which another driver may have started since it was looked for.

    Raises:
        InputError: its folder, or that of its report, holds another study.
    """
    optuna_study = create_study(folder, storage)
    with ExclusiveLock(storage or folder.url, optuna_study.study_name).acquired():
        metadata = StudyMetadata.read(optuna_study)
        folder.check_owner((metadata or given).identity)
        check(config.study, metadata or given)
        if metadata is None:
            study = Study.start(optuna_study, given, folder, storage)
        else:
            refuse_other(metadata, given)
            if has_moved(metadata.config, given.config):  # export and doctor look for data and model there from now on
                metadata = replace(metadata, config=given.config)
                metadata.write(optuna_study)
            study = Study(optuna_study, metadata, folder, storage)
        folder.claim(study.metadata.identity)
        write_text(folder.path / "study.yaml", config.to_yaml())
    return study


@dataclass(frozen=True)
class _Run:
    """One run of a study whose settings, model and data are checked."""

    study: Study
    config: StudyConfig
    console: Console
    task: Task
    executor: LocalExecutor | RayExecutor
    on_end: OnEnd

    def to_the_end(self) -> Study | None:
        """Does what is left to do; None where another driver does what comes after the trials."""
        work = whole_study(self.config, self.study.space, self.task)
        trackers = _trackers(self.study, self.config, self.console)
        display = Display(self.console, self.study, work, self.config.training.steps)
        with Leases(self.study.lock) as parts:
            with display:
                self._run_trials(parts, display, trackers)
                check_trained(self.study)
                if is_ours := self._acquired(parts, _VERDICT):
                    verdict = FreshVerdict.of_choice(self.study, self.config)
                    train_afresh(verdict, self.config.search.verdict_seeds, self.executor, display.verdict)
                    measure_on_test(self.study, verdict.comparison, self.executor, self.task)
            if not is_ours:
                self.console.print(
                    "all trials are finished; another driver trains for the verdict, and writes the report"
                )
                return None
            trackers.send()  # what an earlier run left, or another driver recorded while one was sending
            self._print_end()
            self.on_end(self.study)
            parts.release_part(_VERDICT)
        return self.study

    def _run_trials(self, parts: Leases, display: Display, trackers: Trackers) -> None:
        """Runs all trials."""
        pack = pack_size(self.study, self.config, self.executor, self.console)
        self._tune(parts, display, pack)
        schedule = make_schedule(self.study, self.config, self.executor)
        sole_driver = self.study.storage is None
        Search(self.study, self.config, self.executor, schedule, display, pack, sole_driver, trackers.send).run()

    def _tune(self, parts: Leases, display: Display, pack: int) -> None:
        """Searches learning rates, unless that is done, or not wanted."""
        if not RateSearch.is_wanted(self.study, self.config):
            return
        while self.study.rates is None:
            if not self._acquired(parts, _RATES):
                display.waiting("another driver searches learning rates")
                time.sleep(_POLL)
                continue
            if self.study.rates is None:
                search = RateSearch(self.study, self.config, pack, bool(self.task.head))
                self.study.keep_rates(search.run(self.executor, partial(display.stage, "learning rates: training")))
            parts.release_part(_RATES)
        for note in self.study.rates.notes:
            self.console.print(note, markup=False)

    def _acquired(self, parts: Leases, part: str) -> bool:
        """Whether a part of the study is this driver's to do."""

        def acquire() -> bool:
            with self.study.lock.acquired():
                return parts.acquire_part(self.study.optuna_study, part)

        return patiently(acquire)

    def _print_end(self) -> None:
        in_space = sum(trial.in_space for trial in self.study.trials())
        if in_space < self.config.search.trials:
            asked = self.config.search.trials
            self.console.print(f"every map of the space is trained: {in_space} trials of {asked} asked for")
        seconds = time.time() - psutil.Process().create_time()
        self.console.print(f"{seconds:.0f} s since the start of this process")


def _is_done(study: Study, config: StudyConfig) -> bool:
    """Whether a run would find nothing to do: no trial to train or at work, and the choice measured already."""
    trials = study.trials()
    if any(trial.state == TrialState.RUNNING for trial in trials) or not make_schedule(study, config).is_done(trials):
        return False
    return is_measured(study, config)


def _trackers(study: Study, config: StudyConfig, console: Console) -> Trackers:
    return Trackers(config.trackers, study, partial(console.print, markup=False))


def _print_notes(task: Task, console: Console) -> None:
    for note in task.notes:
        console.print(printable(note), markup=False)
    for kind, (cut, total) in task.cut.items():
        if cut:
            console.print(
                f"{cut:,} of {total:,} {kind} are longer than the study file or the model allows, and are cut"
            )
