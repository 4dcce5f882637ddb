"""Studies of an older schema: migrated when they are opened, with a copy kept, or refused in one line.

Schema 1 (rank_search 0.1.0 before November 2026) named the rivals outside the space by sentences such as ``svd cut to
12,288 parameters``, kept their requested and their resulting ranks under one attribute, and called orders of batches
rounds. All that is known of it stands here.
"""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from rank_search.core.errors import InputError
from rank_search.core.files import write_text
from rank_search.study.metadata import ATTRIBUTE, SCHEMA, StudyMetadata, schema_of, version_of
from rank_search.study.record import TrialRecord
from rank_search.study.storage import DIRECTIONS, find_study, open_storage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

    from rank_search.study.folder import StudyFolder

COPY = "study.schema-1.db"  # what is kept of the older database
_RECIPES = {"fresh": "scratch", "truncated": "truncate"}
_BUDGET = re.compile(r"svd cut to ([\d,]+) parameters")
_ENERGY = re.compile(r"svd cut to (\d+)% of each module's energy")
_REDISTRIBUTED = re.compile(r"(?:eva|adalora) from rank (\d+)")


def migrate(study: optuna.Study, folder: StudyFolder, storage: str | None) -> optuna.Study:
    """A study in today's schema; one of schema 1 is written again, and its database is kept beside it as `COPY`.

    A run that is killed meanwhile leaves the older database in its place.

    Raises:
        InputError: it is of schema 1, and does not lie in its folder's own SQLite file.
        RankSearchError: a run of an older version is at work on it.
    """
    if schema_of(study) != 1:
        return study
    if storage is not None:
        raise InputError(
            f"the study {study.study_name!r} was started by rank_search {version_of(study)} in an older form, which is "
            "migrated only in a study's own study.db; use that version, or start a study of another name",
            field="STUDY",
        )
    try:
        metadata = StudyMetadata.from_json({**study.user_attrs[ATTRIBUTE], "schema": SCHEMA})
    except KeyError:  # of a form that can't be read; whoever reads it says so
        return study
    with folder.locked():
        _migrate(study, metadata, folder)
    if (migrated := find_study(folder, None)) is None:
        raise InputError(f"the migration left no study; restore {COPY}", file=str(folder.path))
    return migrated


def _migrate(study: optuna.Study, metadata: StudyMetadata, folder: StudyFolder) -> None:
    database, partial = folder.path / "study.db", folder.path / ".study.db.partial"
    partial.unlink(missing_ok=True)
    old, new = open_storage(folder.url), open_storage(f"sqlite:///{partial}")
    _copy(study.study_name, old, new, metadata)
    records = [
        TrialRecord.read(trial, metadata.space)
        for trial in optuna.load_study(study_name=study.study_name, storage=new).trials
    ]
    for storage in (old, new):
        storage.remove_session()
        storage.engine.dispose()
    _rename_confirmations(folder.path / "confirmations", records)
    _rename_roles(folder.path / "test.json")
    if not (folder.path / COPY).exists():
        shutil.copy2(database, folder.path / f".{COPY}.partial")
        (folder.path / f".{COPY}.partial").replace(folder.path / COPY)
    partial.replace(database)


def _copy(name: str, old: RDBStorage, new: RDBStorage, metadata: StudyMetadata) -> None:
    """Copies one Optuna study, its trials in today's schema."""
    source = optuna.load_study(study_name=name, storage=old)
    copy = optuna.create_study(study_name=name, storage=new, directions=DIRECTIONS)
    for trial in source.get_trials(deepcopy=True):
        trial.user_attrs = upgraded(trial, metadata)
        copy.add_trial(trial)
    for attribute, value in source.user_attrs.items():
        copy.set_user_attr(attribute, {**value, "schema": SCHEMA} if attribute == ATTRIBUTE else value)


def upgraded(trial: FrozenTrial, metadata: StudyMetadata) -> dict[str, Any]:
    """The attributes of a trial of schema 1, in today's schema."""
    attributes = dict(trial.user_attrs)
    if (batch_order := attributes.pop("round", None)) is not None:
        attributes["batch_order"] = batch_order
    if "recipe" in attributes:
        attributes["recipe"] = _RECIPES.get(attributes["recipe"], attributes["recipe"])
    if (name := attributes.pop("baseline", None)) is not None:
        ranks = attributes.pop("ranks")
        attributes |= _rival(name, ranks, metadata, is_complete=trial.state == TrialState.COMPLETE)
    return attributes


def _rival(name: str, ranks: Mapping[str, int], metadata: StudyMetadata, *, is_complete: bool) -> dict[str, Any]:
    """The rival that a name and ranks of schema 1 stand for."""
    if match := _BUDGET.fullmatch(name):
        return {"requested_ranks": ranks, "budget": int(match[1].replace(",", ""))}
    if match := _ENERGY.fullmatch(name):
        return {"requested_ranks": ranks, "energy": int(match[1]) / 100}
    if match := _REDISTRIBUTED.fullmatch(name):
        requested = metadata.space.uniform(int(match[1]))
        # Of a trial at work the ranks may be the requested ones or those that came out: it is trained again anyway.
        return {"requested_ranks": dict(requested.ranks), **({"ranks": ranks} if is_complete else {})}
    return {"requested_ranks": ranks}


def _rename_confirmations(folder: Path, records: list[TrialRecord]) -> None:
    """Fresh trainings for the verdict were named by the map and its settings at six digits."""
    for record in records:
        if record.candidate is None or not record.candidate.settings:
            continue
        settings = sorted(record.candidate.settings.items())
        name = record.candidate.rank_map.key + "".join(f"-{setting}={value:.6g}" for setting, value in settings)
        for path in folder.glob(f"{name}-*.json"):
            shutil.copy2(path, folder / path.name.replace(name, record.candidate.key, 1))


def _rename_roles(file: Path) -> None:
    """Roles and trials of what was measured on the test split stood under ``contest``."""
    if not file.is_file():
        return
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:  # damaged: whoever reads it says so
        return
    if "contest" in content:
        write_text(file, json.dumps({"trials": content.pop("contest"), **content}))
