"""Checks a study for all that may be broken about it, and fixes what is safe to fix."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState
from safetensors import SafetensorError

from rank_search.core.errors import InputError, RankSearchError
from rank_search.core.job import no_callback
from rank_search.core.processes import is_in_use
from rank_search.study.folder import StudyFolder
from rank_search.study.handle import Study
from rank_search.study.leases import is_live, part_leases
from rank_search.study.storage import database_damage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rank_search.study.record import TrialRecord

_FEW = 3  # trials whose files may lie here without a record


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a study.

    Attributes:
        where: the file, trial or field.
        problem: what is wrong, and what comes of it.
        fix: what `examine` does about it, or did; empty where only a person can fix it.
        fixed: it was done.
        harmless: the next run deals with it by itself.
    """

    where: str
    problem: str
    fix: str = ""
    fixed: bool = False
    harmless: bool = False


@dataclass(frozen=True)
class _Problem:
    """A finding, and the file or folder that a fix moves out of the way; None where only a person can fix it."""

    finding: Finding
    path: Path | None = None


def examine(
    study: str,
    storage: str | None,
    fingerprints: Callable[[Study], tuple[str, str]],
    *,
    fix: bool,
    on_fix: Callable[[Finding], Any] = no_callback,
) -> list[Finding]:
    """Looks at the database, files, leases and fingerprints of a study.

    With ``fix`` it looks, and acts, while no driver can work on the study. It deletes nothing: what is damaged, or
    belongs to no trial, goes to the folder's ``quarantine/``.

    Args:
        study: its name under ``studies/``, or the path of its folder.
        storage: URL of another storage than the study's own SQLite file.
        fingerprints: of the data and the base model as they are now; may raise what loading them raises.
        fix: whether to fix what is safe to fix.
        on_fix: called with each finding before it is fixed.

    Returns:
        What is wrong.

    Raises:
        InputError: there is no such study, or its database can't be opened.
        RankSearchError: it is to be fixed, and a run is at work on it.
    """
    folder = StudyFolder.named(study)
    if storage is None and (damage := database_damage(folder, thorough=True)):
        return [Finding(str(folder.database), f"{damage}; restore it from a copy")]
    opened = Study.open(study, storage)
    found = _fixed(opened, on_fix) if fix else [problem.finding for problem in _problems(opened)]
    return [*found, *_facts(opened, fingerprints)]


def _fixed(study: Study, on_fix: Callable[[Finding], Any]) -> list[Finding]:
    """Fixes what is safe to fix, while no other process works on the study.

    Raises:
        RankSearchError: one does.
    """
    folder, found = study.folder, []
    with folder.locked(), study.lock.acquired():  # export --retrain holds the first, drivers one or the other
        if study.is_running():
            raise RankSearchError(f"{folder.path}: a run of this study is at work; stop it, or leave out --fix")
        for problem in _problems(study):
            finding = problem.finding
            # What lies in a folder that was moved has gone with it.
            if problem.path is not None and os.path.lexists(problem.path):
                on_fix(finding)
                folder.move_to_quarantine(problem.path)
                finding = replace(finding, fixed=True)
            found.append(finding)
    return found


def _problems(study: Study) -> list[_Problem]:
    return [*_attributes(study), *_trials(study), *_orphans(study), *_files(study)]


def _attributes(study: Study) -> Iterator[_Problem]:
    """What the study keeps beside its trials and its metadata."""
    for read in (lambda: study.pack, lambda: part_leases(study.optuna_study)):
        try:
            read()
        except InputError as error:
            yield _Problem(Finding(study.database, str(error)))


def _trials(study: Study) -> Iterator[_Problem]:
    """Damaged records, running trials that no process works on, and files that are not as they were recorded."""
    folder = study.folder
    records, damaged = study.readable_trials()
    for error in damaged.values():
        yield _Problem(Finding(error.file or study.database, str(InputError(error.problem, field=error.field))))
    for trial in records:
        name = f"trial {trial.number}"
        if trial.state == TrialState.RUNNING and not is_live(trial.attributes.lease):
            yield _Problem(Finding(name, "its driver is dead; the next run takes it over", harmless=True))
        if trial.state != TrialState.COMPLETE:
            continue
        try:
            result = folder.read_result(trial.number)
        except RankSearchError:
            yield _movable(study, folder.result(trial.number), "it is damaged; its per-example scores are lost")
            continue
        if not result:
            problem = "its per-example scores are gone, so its place on the front is less certain than it was"
            yield _Problem(Finding(name, problem))
        if folder.adapter(trial.number).is_dir() and (problem := _problem_of_adapter(folder, trial)):
            again = f"export --trial {trial.number} --to peft --retrain makes it again"
            yield _movable(study, folder.adapter(trial.number), f"{problem}; {again}")


def _problem_of_adapter(folder: StudyFolder, trial: TrialRecord) -> str:
    """What is wrong with the saved adapter of a complete trial; empty where nothing is."""
    try:
        folder.check_adapter(trial.number)
    except InputError as error:
        return error.problem.partition(";")[0]
    from rank_search.adapters import saved_ranks  # loads torch

    with suppress(SafetensorError):  # else it was trained so, as its digest says
        ranks = saved_ranks(folder.adapter(trial.number))
        if trial.rank_map is not None and ranks != trial.rank_map.adapted:
            return "its ranks are not those of the trial's record"
    return ""


def _orphans(study: Study) -> Iterator[_Problem]:
    """Adapters and results that belong to no finished trial.

    A few are what failures and kills leave. Where there are many, the database has lost trials, and these files may be
    all that is left of them.
    """
    folder = study.folder
    records, damaged = study.readable_trials()
    failed = {trial.number for trial in records if trial.state == TrialState.FAIL}
    known = {*(trial.number for trial in records), *damaged} - failed
    results = (path for path in sorted((folder.path / "results").glob("*.json")) if path.stem.isdecimal())
    files = [*sorted(folder.adapters().items()), *((int(path.stem), path) for path in results)]
    orphans = [(number, path) for number, path in files if number not in known]
    numbers = sorted({number for number, _ in orphans})
    if len(numbers) <= _FEW:
        yield from (_movable(study, path, "it belongs to no finished trial") for _, path in orphans)
        return
    problem = (
        f"it knows no finished trial of {len(numbers)} whose files are here ({numbers[0]} to {numbers[-1]}), so it may "
        "have lost them; restore it from a copy, or move these files out of adapters/ and results/ yourself"
    )
    yield _Problem(Finding(study.database, problem))


def _files(study: Study) -> Iterator[_Problem]:
    """Files that a killed process left, or that can't be read."""
    folder = study.folder
    for path in sorted(folder.path.rglob(".*.partial")):
        is_ours = "quarantine" not in path.relative_to(folder.path).parts
        if is_ours and not is_in_use(path.name.removesuffix(".partial").rpartition(".")[2]):
            yield _movable(study, path, "a killed process left it")
    again = "the next run makes it again"
    for path in [folder.path / "test.json", *sorted((folder.path / "confirmations").glob("*.json"))]:
        if path.is_file() and not _is_json(path):
            yield _movable(study, path, f"it is damaged; {again}")


def _facts(study: Study, fingerprints: Callable[[Study], tuple[str, str]]) -> Iterator[Finding]:
    """Data and base model, if they are not those that the study was started with."""
    try:
        data, model = fingerprints(study)
    except (RankSearchError, OSError) as error:
        yield Finding("data and base model", f"can't be loaded: {error}")
        return
    if data != study.metadata.data_fingerprint:
        yield Finding("task.data", "is not what the study was started with; restore it to go on")
    if model != study.metadata.model_fingerprint:
        yield Finding("model.source", "is not what the study was started with; restore it to go on")


def _movable(study: Study, path: Path, problem: str) -> _Problem:
    place = study.folder.quarantine(path).relative_to(study.folder.path)
    return _Problem(Finding(str(path), problem, f"move it to {place}"), path)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return False
    return True
