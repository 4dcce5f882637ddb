"""Where studies live: one folder each, with an Optuna SQLite file unless another storage is named."""

from __future__ import annotations

import itertools
import json
import shlex
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import optuna
import psutil
from filelock import FileLock, Timeout
from optuna.storages import RDBStorage
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from rank_search.core.errors import InputError, RankSearchError, did_you_mean
from rank_search.core.files import sha256, write_text
from rank_search.study.faults import out_of_service
from rank_search.study.metadata import StudyRecord

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from optuna import Study
    from sqlalchemy.engine import URL

STUDIES = Path("studies")
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


@dataclass(frozen=True)
class StudyFolder:
    """The files of a study beside its database.

    ``study.yaml`` the frozen config; ``results/N.json`` per-example values and losses of trial N;
    ``adapters/N/`` its adapter; ``test.json`` the chosen map and its rivals on the test split; ``confirmations/``
    their fresh trainings for the verdict.
    """

    path: Path

    @classmethod
    def of(cls, study: str) -> StudyFolder:
        """The folder of a study given by name (under ``studies/``) or by path."""
        return cls(Path(study) if "/" in study else STUDIES / study)

    @property
    def name(self) -> str:
        """The study's name."""
        return self.path.resolve().name

    def called(self, *, elsewhere: bool) -> str:
        """How a command names it.

        Args:
            elsewhere: its database is named by ``--storage``; the URL, which may hold a password, is left to fill in.
        """
        name = shlex.quote(self.name if self.path.parent == STUDIES else str(self.path))
        return f"{name} --storage URL" if elsewhere else name

    @property
    def url(self) -> str:
        """Storage URL of the folder's own database."""
        return f"sqlite:///{self.path / 'study.db'}"

    def check_owner(self, record: StudyRecord) -> None:
        """Checks that the files here, if there are any, are those of this study.

        Raises:
            InputError: they belong to a study of the same name in another storage, or to one whose
                database was deleted.
        """
        owner = self._owner.read_text(encoding="utf-8").strip() if self._owner.is_file() else ""
        if not record.identity.startswith(owner):  # one that was cut short is taken for ours
            raise InputError(
                "holds the files of another study of this name (from another --storage, or a deleted study.db); "
                "move the folder away, or give the study another name",
                file=str(self.path),
            )

    def claim(self, record: StudyRecord) -> None:
        """Marks the files here as this study's.

        Raises:
            InputError: they are another's.
        """
        self.check_owner(record)
        write_text(self._owner, f"{record.identity}\n")

    @property
    def _owner(self) -> Path:
        return self.path / "identity"

    def adapter(self, trial: int) -> Path:
        """Folder of a trial's adapter."""
        return self.path / "adapters" / f"{trial:04d}"

    def adapters(self) -> dict[int, Path]:
        """The folders of the saved adapters by trial number."""
        folders = (self.path / "adapters").glob("*")
        return {int(folder.name): folder for folder in folders if folder.name.isdecimal()}

    def adapter_digests(self, trial: int) -> dict[str, str]:
        """SHA-256 of a trial's adapter weights, by their file's name in its folder."""
        folder = self.adapter(trial)
        return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*.safetensors"))}

    def check_adapter(self, trial: int) -> None:
        """Checks that a trial's adapter is as it was trained.

        Raises:
            InputError: its weights were edited or damaged since, or are gone.
        """
        kept, found = self.read_result(trial).get("adapter", {}), self.adapter_digests(trial)
        for name, digest in kept.items():
            if found.get(name) != digest:
                raise InputError(
                    "is not what was trained: it was edited, damaged or removed; restore it, or export another trial",
                    file=str(self.adapter(trial) / name),
                )

    @property
    def super_adapter(self) -> Path:
        """The nested super-adapter."""
        return self.path / "nested.safetensors"

    def keep_adapters(self, trials: Collection[int]) -> None:
        """Removes the adapters of all other trials."""
        for number, folder in self.adapters().items():
            if number not in trials:
                shutil.rmtree(folder)

    def write_result(self, trial: int, result: Mapping[str, Any]) -> None:
        """Keeps what of a trial is too long for the database."""
        write_text(self.result(trial), json.dumps(result))

    def read_result(self, trial: int) -> dict[str, Any]:
        """What `write_result` kept; empty when there is nothing."""
        return _read_json(self.result(trial))

    def write_test(self, contest: Mapping[str, int], test: Mapping[str, Any]) -> None:
        """Keeps what the adapters of a contest, whose trials are named by their role, did on the test split."""
        write_text(self.path / "test.json", json.dumps({"contest": contest, **test}))

    def read_test(self, contest: Mapping[str, int]) -> dict[str, Any]:
        """What `write_test` kept; empty when there is nothing, or only for another contest."""
        test = _read_json(self.path / "test.json")
        return test if test.get("contest") == contest else {}

    def write_confirmation(self, name: str, number: int, result: Mapping[str, Any]) -> None:
        """Keeps what the fresh training of this number came to."""
        write_text(self._confirmation(name, number), json.dumps(result))

    def read_confirmation(self, name: str, number: int) -> dict[str, Any]:
        """What `write_confirmation` kept; empty when there is nothing."""
        return _read_json(self._confirmation(name, number))

    def read_confirmations(self, name: str) -> list[dict[str, Any]]:
        """All that `write_confirmation` kept under a name, in order of their number."""
        numbers = itertools.count()
        return list(itertools.takewhile(bool, (self.read_confirmation(name, number) for number in numbers)))

    def _confirmation(self, name: str, number: int) -> Path:
        return self.path / "confirmations" / f"{name}-{number}.json"

    def result(self, trial: int) -> Path:
        """File of what `write_result` keeps of a trial."""
        return self.path / "results" / f"{trial:04d}.json"

    @contextmanager
    def locked(self, *, shared: bool = False) -> Iterator[None]:
        """Keeps a second driver out: SQLite is for one writer.

        The lock belongs to the open file, so it ends with the process however that ends.

        Args:
            shared: the storage is for several drivers; none is kept out.

        Raises:
            RankSearchError: another driver runs this study.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if shared:
            yield
            return
        lock = FileLock(self.path / "driver.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RankSearchError(
                f"{self.path}: another run of this study is at work; wait for it, or stop it"
            ) from None
        try:
            yield
        finally:
            lock.release()


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
    """Refuses SQLite on a network file system, whose locks its makers warn of (https://sqlite.org/faq.html#q5).

    Raises:
        InputError: the database would lie on one.
    """
    if is_shared(storage):
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


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise RankSearchError(f"{path}: is damaged; restore it, or remove it to do without") from None
    return content


def create_study(folder: StudyFolder, storage: str | None, suffix: str = "") -> Study:
    """Opens the study, or the one beside it whose name ends in ``suffix``, making it if it is new."""
    name = folder.name + suffix
    return optuna.create_study(
        storage=_open(storage or folder.url), study_name=name, directions=DIRECTIONS, load_if_exists=True
    )


def find_study(folder: StudyFolder, storage: str | None) -> tuple[Study, StudyRecord] | None:
    """The study and its record, or None where it was never begun. Creates nothing.

    Raises:
        InputError: the storage can't be opened.
    """
    names = _study_names(folder, storage)
    # A copied or renamed folder holds one study, under its old name.
    name = names[0] if storage is None and len(names) == 1 else folder.name
    if name not in names:
        return None
    study = optuna.load_study(storage=_open(storage or folder.url), study_name=name)
    record = StudyRecord.read(study)
    return (study, record) if record else None


def load_study(folder: StudyFolder, storage: str | None) -> tuple[Study, StudyRecord]:
    """A study that exists, with its record.

    Raises:
        InputError: there is none, or the files in its folder are another's.
    """
    found = find_study(folder, storage)
    if found is None:
        siblings = [path.parent.name for path in folder.path.parent.glob("*/study.db")]
        others = set(_study_names(folder, storage) if storage else siblings) - {folder.name}
        raise InputError(f"no study {folder.name!r}; {did_you_mean(folder.name, others)}", field="STUDY")
    folder.check_owner(found[1])
    return found


def _study_names(folder: StudyFolder, storage: str | None) -> list[str]:
    """Names of the studies in a storage; none where it does not exist or is no Optuna storage yet."""
    url = storage or folder.url
    try:
        address = parsed(url)
        if address.get_backend_name() == "sqlite":
            file = Path(address.database or "")
            if storage and not file.absolute().parent.is_dir():
                raise InputError(f"{str(file.parent)!r} is no folder; make it first", field="--storage")
            # Opening a file that is not there, or not Optuna's, would make tables in it.
            if not file.is_file() or not inspect(create_engine(address)).has_table("studies"):
                return []
        return [name for name in optuna.get_all_study_names(_open(url)) if not name.endswith(BESIDE)]
    except SQLAlchemyError as error:
        if storage is None:
            raise InputError("is damaged, or no SQLite file; restore it", file=str(folder.path / "study.db")) from None
        raise _unusable(error) from None


def _open(url: str) -> RDBStorage:
    """Optuna's storage at a URL.

    Raises:
        InputError: it can't be opened.
    """
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
        f"can't be opened ({type(error).__name__}); mend the URL, or install its driver", field="--storage"
    )
