"""Optuna's storage of a study: its own SQLite file, or the one that ``--storage`` names."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import optuna
import psutil
from optuna.storages import RDBStorage
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from rank_search.core.errors import InputError, OutOfService, RankSearchError, first_line
from rank_search.core.extras import require_extra
from rank_search.study.faults import is_unreachable
from rank_search.study.optuna_compat import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import URL

    from rank_search.study.folder import StudyFolder

DIRECTIONS: list[Literal["maximize", "minimize"]] = ["maximize", "minimize"]  # score, trainable parameters
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
        # No part of it is repeated, as it may hold a password.
        problem = (
            f"is no storage URL ({type(error).__name__}); write one such as postgresql+psycopg://USER@HOST/DATABASE"
        )
        raise InputError(problem, field="--storage") from None


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


def create_study(folder: StudyFolder, storage: str | None) -> optuna.Study:
    """Opens the Optuna study of a folder; makes it if it is new.

    Raises:
        InputError: the storage can't be opened, or holds another program's study of this name.
    """
    study = optuna.create_study(
        storage=open_storage(storage or folder.url),
        study_name=folder.name,
        directions=DIRECTIONS,
        load_if_exists=True,
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
    if storage is None and (damage := database_damage(folder)):
        raise InputError(f"{damage}; restore it from a copy", file=str(folder.database))
    names = study_names(folder, storage)
    # A copied or renamed folder holds one study, under its old name.
    name = names[0] if storage is None and len(names) == 1 else folder.name
    if name not in names:
        return None
    with explained(folder, storage):
        return optuna.load_study(storage=open_storage(storage or folder.url), study_name=name)


def database_damage(folder: StudyFolder, *, thorough: bool = False) -> str:
    """What is wrong with the structure of a folder's own SQLite file; empty where nothing is, or there is no file.

    SQLite reads a table as far as it can, so rows of a damaged file may be missing without an error.

    Args:
        folder: the folder.
        thorough: also look whether indices agree with their tables.

    Raises:
        RankSearchError: another process keeps the file locked.
    """
    if not folder.database.is_file():
        return ""
    engine = create_engine(folder.url, connect_args={"timeout": _SQLITE_WAIT})
    try:
        with engine.connect() as connection:
            check = "integrity_check" if thorough else "quick_check"
            (answer,) = connection.execute(text(f"PRAGMA {check}(1)")).scalars()
    except (SQLAlchemyError, UnicodeDecodeError) as error:
        if is_unreachable(error):
            raise RankSearchError(f"{folder.database}: another process keeps it locked; stop that") from None
        return "it is damaged, or no SQLite file"
    finally:
        engine.dispose()
    return "" if answer == "ok" else f"it is damaged; SQLite says: {' '.join(str(answer).split())}"


@contextmanager
def explained(folder: StudyFolder, storage: str | None) -> Iterator[None]:
    """Makes an InputError, which names the database, of what Optuna raises at values that it can't have written.

    Raises:
        InputError: the record is damaged, or the one that was raised inside.
    """
    database = str(folder.database) if storage is None else "--storage"
    try:
        yield
    except InputError as error:
        about_input = error.field is not None and (error.field == "STUDY" or error.field.startswith("--"))
        raise error if about_input else error.in_file(database) from None
    except UNREADABLE as error:
        raise InputError(
            f"the record of the study can't be read ({first_line(error)}); restore the database from a copy",
            file=database,
        ) from None


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
            with explained(folder, storage):
                if not file.is_file() or not inspect(create_engine(address)).has_table("studies"):
                    return []
        with explained(folder, storage):
            return optuna.get_all_study_names(open_storage(url))
    except SQLAlchemyError as error:
        raise _unusable(error, url) from None


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
    except RuntimeError:  # Optuna's, at tables of another version of it
        raise InputError(
            f"its tables are of another version of Optuna than {version('optuna')}, which is installed; install the "
            "newest Optuna, or upgrade older tables by: optuna storage upgrade --storage URL",
            file=_sqlite_file(url) or "--storage",
        ) from None
    except (ImportError, SQLAlchemyError) as error:
        raise _unusable(error, url) from None


def _unusable(error: Exception, url: str) -> InputError | OutOfService:
    """What to say of a storage that can't be opened."""
    if not (file := _sqlite_file(url)):  # no part of the URL is repeated, as it may hold a password
        problem = f"can't be opened ({type(error).__name__}); fix the URL, or install its driver"
        return InputError(problem, field="--storage")
    # SQLite can't make its journal on a full disk, and then says no more than that it can't open the database.
    if "disk is full" in str(error) or not shutil.disk_usage(Path(file).absolute().parent).free:
        return OutOfService(
            f"{file}: the disk is full; nothing that was recorded is lost: make room, then run the same command again"
        )
    reason = error.orig if isinstance(error, DBAPIError) else type(error).__name__
    if isinstance(reason, sqlite3.DatabaseError) and not isinstance(reason, sqlite3.OperationalError):
        return InputError("it is damaged, or no SQLite file; restore it from a copy", file=file)
    return InputError(f"can't be opened ({reason}); check that its folder can be read and written", file=file)


def _sqlite_file(url: str) -> str:
    """The file of an SQLite database; empty for other databases."""
    address = parsed(url)
    return str(address.database or ":memory:") if address.get_backend_name() == "sqlite" else ""
