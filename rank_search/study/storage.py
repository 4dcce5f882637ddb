"""Optuna's storage of a study: its own SQLite file, or the one that ``--storage`` names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import optuna
import psutil
from optuna.storages import RDBStorage
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from rank_search.core.errors import InputError
from rank_search.core.extras import require_extra
from rank_search.study.faults import out_of_service

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from rank_search.study.folder import StudyFolder

DIRECTIONS: list[Literal["maximize", "minimize"]] = ["maximize", "minimize"]  # score, trainable parameters
BESIDE = "/nested"  # what follows a study's name in that of its nested scores; no study's own name has a slash
_SQLITE_WAIT = 60  # seconds to wait for another reader or writer
_OPENINGS = 5
_NETWORKED = {
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "fuse.glusterfs",
    "fuse.sshfs",
    "gpfs",
    "lustre",
    "nfs",
    "nfs4",
    "smb3",
    "smbfs",
}


def is_shared(storage: str | None) -> bool:
    """Whether a storage, by its URL, is for several drivers at once: any but SQLite."""
    return storage is not None and parsed(storage).get_backend_name() != "sqlite"


def parsed(url: str) -> URL:
    """A storage URL.

    Raises:
        InputError: it is none.
    """
    try:
        return make_url(url)
    except (SQLAlchemyError, ValueError) as error:  # such as a port that is no number
        raise _unusable(error) from None


def check_storage(folder: StudyFolder, storage: str | None) -> None:
    """Refuses databases on which drivers can't exclude each other.

    SQLite on a network file system is one: its makers warn of the locks there (https://sqlite.org/faq.html#q5).

    Raises:
        InputError: the storage is such a database.
    """
    if is_shared(storage):
        if (dialect := parsed(storage or "").get_backend_name()) != "postgresql":
            raise InputError(
                f"is a {dialect} database, on which drivers can't exclude each other; name a PostgreSQL database",
                field="--storage",
            )
        return
    file = Path(parsed(storage or folder.url).database or "").absolute()
    mounts = {Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(all=True)}
    kind = next((mounts[place] for place in file.resolve().parents if place in mounts), "")
    if kind in _NETWORKED:
        raise InputError(
            f"{file.parent} is on a network file system ({kind}), where SQLite loses data as its locks can't be relied "
            "on; name a PostgreSQL --storage, or work in a folder on a local disk",
            field="--storage",
        )


def create_study(folder: StudyFolder, storage: str | None, suffix: str = "") -> optuna.Study:
    """Opens the Optuna study of a folder, or the one beside it whose name ends in ``suffix``; makes it if it is new.

    Raises:
        InputError: the storage can't be opened, or holds another program's study of this name.
    """
    name = folder.name + suffix
    study = optuna.create_study(
        storage=open_storage(storage or folder.url), study_name=name, directions=DIRECTIONS, load_if_exists=True
    )
    refuse_other_objectives(study)
    return study


def refuse_other_objectives(study: optuna.Study) -> None:
    """Checks that a study maximises a score and minimises parameters, as all of ours do.

    Raises:
        InputError: it has other objectives.
    """
    found = [direction.name.lower() for direction in study.directions]
    if found != DIRECTIONS:
        raise InputError(
            f"the study {study.study_name!r} has the objectives {', '.join(found)}, not {', '.join(DIRECTIONS)}: it is "
            "another program's, or its record was changed; give this study another name, or restore the record",
            field="STUDY",
        )


def find_study(folder: StudyFolder, storage: str | None) -> optuna.Study | None:
    """The Optuna study of a folder, or None where there is none. Creates nothing.

    Raises:
        InputError: the storage can't be opened.
    """
    names = study_names(folder, storage)
    # A copied or renamed folder holds one study, under its old name.
    name = names[0] if storage is None and len(names) == 1 else folder.name
    if name not in names:
        return None
    return optuna.load_study(storage=open_storage(storage or folder.url), study_name=name)


def study_names(folder: StudyFolder, storage: str | None) -> list[str]:
    """Names of the studies in a storage; none where it does not exist or is no Optuna storage yet."""
    url = storage or folder.url
    try:
        address = parsed(url)
        if address.get_backend_name() == "sqlite":
            file = Path(address.database or "")
            if storage and not file.absolute().parent.is_dir():
                raise InputError(f"{str(file.parent)!r} is no folder; make it first", field="--storage")
            # Opening a file that is missing, or is not Optuna's, would create tables in it.
            if not file.is_file() or not inspect(create_engine(address)).has_table("studies"):
                return []
        return [name for name in optuna.get_all_study_names(open_storage(url)) if not name.endswith(BESIDE)]
    except SQLAlchemyError as error:
        if storage is None:
            raise InputError("is damaged, or no SQLite file; restore it", file=str(folder.path / "study.db")) from None
        raise _unusable(error) from None


def open_storage(url: str) -> RDBStorage:
    """Optuna's storage at a URL.

    Raises:
        InputError: it can't be opened.
    """
    if parsed(url).drivername == "postgresql+psycopg":
        require_extra("postgres", "PostgreSQL", field="--storage")
    # A server may have closed connections since they were last used.
    connect = {"connect_args": {"timeout": _SQLITE_WAIT}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    # Drivers that start at once may all make the tables.
    again = Retrying(
        retry=retry_if_exception_type((IntegrityError, ProgrammingError)),
        stop=stop_after_attempt(_OPENINGS),
        wait=wait_random(max=2),
        reraise=True,
    )
    try:
        return again(lambda: RDBStorage(url, engine_kwargs=connect))
    except (ImportError, SQLAlchemyError) as error:
        full = out_of_service(error) if "disk is full" in str(error) else None  # SQLite's words
        raise full or _unusable(error) from None


def _unusable(error: Exception) -> InputError:
    """No part of the URL is repeated, as it may hold a password."""
    return InputError(
        f"can't be opened ({type(error).__name__}); fix the URL, or install its driver", field="--storage"
    )
