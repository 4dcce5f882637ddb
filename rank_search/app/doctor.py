"""Checks a study for all that may be broken about it, and fixes what is safe to fix."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState
from safetensors import SafetensorError, safe_open
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from rank_search.core.errors import InputError, RankSearchError
from rank_search.study.faults import is_unreachable
from rank_search.study.folder import StudyFolder
from rank_search.study.handle import Study
from rank_search.study.leases import is_live

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


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
class _Fixable:
    finding: Finding
    apply_fix: Callable[[], Any] = lambda: None


def examine(
    study: str, storage: str | None, fingerprints: Callable[[Study], tuple[str, str]], *, fix: bool
) -> list[Finding]:
    """Looks at the database, files, leases and fingerprints of a study.

    Args:
        study: its name under ``studies/``, or the path of its folder.
        storage: URL of another storage than the study's own SQLite file.
        fingerprints: of the data and the base model as they are now; may raise what loading them raises.
        fix: whether to fix what is safe to fix: to remove what is damaged, or belongs to no trial.

    Returns:
        What is wrong.

    Raises:
        InputError: there is no such study, or its database can't be opened.
        RankSearchError: it is to be fixed, and a run is at work on it.
    """
    folder = StudyFolder.named(study)
    if storage is None and (damage := _database_damage(folder)):
        return [Finding(str(folder.path / "study.db"), f"{damage}; restore it from a copy")]
    opened = Study.open(study, storage)
    finished = _finished(opened)
    found = [*_trials(opened), *_files(opened), *_facts(opened, fingerprints)]
    if not fix:
        return [problem.finding for problem in found]
    with folder.locked(shared=opened.is_shared), opened.lock.acquired():
        if opened.is_running() or _finished(opened) != finished:
            raise RankSearchError(f"{folder.path}: a run of this study is at work; stop it, or leave out --fix")
        return [_fixed(problem) for problem in found]


def _finished(study: Study) -> int:
    return sum(trial.state.is_finished() for trial in study.trials())


def _fixed(problem: _Fixable) -> Finding:
    if not problem.finding.fix:
        return problem.finding
    problem.apply_fix()
    return replace(problem.finding, fixed=True)


def _database_damage(folder: StudyFolder) -> str:
    """What SQLite says of the file's structure; empty where it is sound."""
    if not (folder.path / "study.db").is_file():
        return ""
    engine = create_engine(folder.url)
    try:
        with engine.connect() as connection:
            (answer,) = connection.execute(text("PRAGMA integrity_check(1)")).scalars()
    except SQLAlchemyError as error:
        if is_unreachable(error):
            raise RankSearchError(f"{folder.path / 'study.db'}: another process keeps it locked; stop that") from None
        return "it is damaged, or no SQLite file"
    finally:
        engine.dispose()
    return "" if answer == "ok" else f"SQLite says: {' '.join(str(answer).split())}"


def _trials(study: Study) -> Iterator[_Fixable]:
    """Running trials that no process works on, and complete ones whose files are not as they were recorded."""
    folder = study.folder
    for trial in study.trials():
        name = f"trial {trial.number}"
        if trial.state == TrialState.RUNNING and not is_live(trial.attributes.lease):
            yield _Fixable(Finding(name, "its driver is dead; the next run takes it over", harmless=True))
        if trial.state != TrialState.COMPLETE:
            continue
        try:
            result = folder.read_result(trial.number)
        except RankSearchError:
            yield from _removable(folder.result(trial.number), "it is damaged; its per-example scores are lost")
            continue
        if not result:
            problem = "its per-example scores are gone, so its place on the front is less certain than it was"
            yield _Fixable(Finding(name, problem))
        if folder.adapter(trial.number).is_dir():
            try:
                folder.check_adapter(trial.number)
            except InputError as error:
                problem, _, _ = error.problem.partition(";")
                again = f"export --trial {trial.number} --to peft --retrain makes it again"
                yield from _removable(folder.adapter(trial.number), f"{problem}; {again}")


def _files(study: Study) -> Iterator[_Fixable]:
    """Files that belong to no complete trial, that a killed process left, or that can't be read."""
    folder = study.folder
    trials = study.trials()
    finished = {trial.number for trial in trials if trial.state in {TrialState.COMPLETE, TrialState.PRUNED}}
    at_work = {trial.number for trial in trials if not trial.state.is_finished()}
    for number, path in folder.adapters().items():
        if number not in finished | at_work:
            yield from _removable(path, "it belongs to no finished trial")
    for path in sorted((folder.path / "results").glob("*.json")):
        if path.stem.isdecimal() and int(path.stem) not in finished | at_work:
            yield from _removable(path, "it belongs to no finished trial")
    for path in sorted(folder.path.rglob(".*.partial")):
        yield from _removable(path, "a killed process left it")
    again = "the next run makes it again"
    for path in [folder.path / "test.json", *sorted((folder.path / "confirmations").glob("*.json"))]:
        if path.is_file() and not _is_json(path):
            yield from _removable(path, f"it is damaged; {again}")
    if folder.super_adapter.is_file() and not _is_safetensors(folder.super_adapter):
        yield from _removable(folder.super_adapter, f"it is damaged; {again}")


def _facts(study: Study, fingerprints: Callable[[Study], tuple[str, str]]) -> Iterator[_Fixable]:
    """Data and base model, if they are not those that the study was started with."""
    try:
        data, model = fingerprints(study)
    except (RankSearchError, OSError) as error:
        yield _Fixable(Finding("data and base model", f"can't be loaded: {error}"))
        return
    if data != study.metadata.data_fingerprint:
        yield _Fixable(Finding("task.data", "is not what the study was started with; restore it to go on"))
    if model != study.metadata.model_fingerprint:
        yield _Fixable(Finding("model.source", "is not what the study was started with; restore it to go on"))


def _removable(path: Path, problem: str) -> Iterator[_Fixable]:
    remove = shutil.rmtree if path.is_dir() else type(path).unlink
    yield _Fixable(Finding(str(path), problem, "remove it"), lambda: remove(path))


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def _is_safetensors(path: Path) -> bool:
    try:
        with safe_open(path, "pt"):
            return True
    except (SafetensorError, OSError):
        return False
