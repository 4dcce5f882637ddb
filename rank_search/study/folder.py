"""The folder of a study: the files beside its database, and the lock that keeps a second driver out."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from pydantic import BaseModel

from rank_search.core.errors import InputError, RankSearchError
from rank_search.core.files import sha256, write_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

STUDIES = Path("studies")
CONFIRMATIONS = "confirmations"  # fresh trainings for the verdict


@dataclass(frozen=True)
class StudyFolder:
    """The files of a study beside its database.

    ``study.yaml`` the frozen config; ``results/N.json`` per-example values and losses of trial N;
    ``adapters/N/`` its adapter; ``test.json`` the chosen map and its rivals on the test split; ``confirmations/``
    their fresh trainings for the verdict; ``rates/`` trainings by which learning rates were chosen; ``quarantine/``
    what `doctor --fix` moved out of the way.
    """

    path: Path

    @classmethod
    def named(cls, study: str) -> StudyFolder:
        """The folder of a study given by name (under ``studies/``) or by path."""
        return cls(Path(study) if "/" in study else STUDIES / study)

    @property
    def name(self) -> str:
        """The study's name."""
        return self.path.resolve().name

    @property
    def url(self) -> str:
        """Storage URL of the folder's own database."""
        return f"sqlite:///{self.database}"

    @property
    def database(self) -> Path:
        """File of the folder's own database."""
        return self.path / "study.db"

    @property
    def name_in_commands(self) -> str:
        """How a command names it: by its name under ``studies/``, else by its path; quoted for a shell."""
        if self.path.parent == STUDIES:
            return shlex.quote(self.path.name)  # of a link, not of what it points to
        path = str(self.path)
        return shlex.quote(path if "/" in path else f"./{path}")

    def check_owner(self, identity: str) -> None:
        """Checks that the files here, if there are any, are those of the study of this identity.

        Raises:
            InputError: they belong to a study of the same name in another storage, or to one whose
                database was deleted.
        """
        owner = self._owner.read_text(encoding="utf-8").strip() if self._owner.is_file() else ""
        if not identity.startswith(owner):  # a file that was cut short counts as this study's
            raise InputError(
                "holds the files of another study of this name (from another --storage, or a deleted study.db); "
                "move the folder away, or give the study another name",
                file=str(self.path),
            )

    def claim(self, identity: str) -> None:
        """Marks the files here as those of the study of this identity.

        Raises:
            InputError: they belong to another study.
        """
        self.check_owner(identity)
        write_text(self._owner, f"{identity}\n")

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

    def quarantine(self, path: Path) -> Path:
        """Where `move_to_quarantine` would move one of the study's files or folders."""
        wanted = self.path / "quarantine" / path.relative_to(self.path)
        numbered = (wanted.with_name(f"{wanted.name}.{count}") for count in itertools.count(1))
        return next(place for place in itertools.chain([wanted], numbered) if not os.path.lexists(place))

    def move_to_quarantine(self, path: Path) -> None:
        """Moves one of the study's files or folders out of the way; a link is moved, not what it leads to."""
        place = self.quarantine(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, place)

    def keep_adapters(self, trials: Collection[int]) -> None:
        """Removes the adapters of all other trials."""
        for number, folder in self.adapters().items():
            if number not in trials and not folder.is_symlink():  # a link is the user's own, and can't be removed so
                shutil.rmtree(folder)

    def write_result(self, trial: int, result: Mapping[str, Any]) -> None:
        """Keeps what of a trial is too long for the database."""
        write_text(self.result(trial), json.dumps(result))

    def read_result(self, trial: int) -> dict[str, Any]:
        """What `write_result` kept; empty when there is nothing.

        Raises:
            RankSearchError: it is damaged.
        """
        return _read_json(self.result(trial), _Result)

    def write_test(self, trials: Mapping[str, int], test: Mapping[str, Any]) -> None:
        """Keeps what saved adapters did on the test split.

        Args:
            trials: role (``chosen`` or a baseline's) → trial number.
            test: the results.
        """
        write_text(self.path / "test.json", json.dumps({"trials": trials, **test}))

    def read_test(self, trials: Mapping[str, int]) -> dict[str, Any]:
        """What `write_test` kept; empty when there is nothing, or only for other trials."""
        test = _read_json(self.path / "test.json", _Test)
        return test if test.get("trials") == trials else {}

    def write_training(self, place: str, name: str, number: int, result: Mapping[str, Any]) -> None:
        """Keeps what a training that is no trial came to.

        Args:
            place: folder for trainings of one purpose.
            name: of the candidate.
            number: of its training.
            result: what it came to.
        """
        write_text(self._training(place, name, number), json.dumps(result))

    def read_training(self, place: str, name: str, number: int) -> dict[str, Any]:
        """What `write_training` kept; empty when there is nothing."""
        return _read_json(self._training(place, name, number), _Training)

    def read_confirmations(self, name: str) -> list[dict[str, Any]]:
        """All fresh trainings of a candidate for the verdict, in order of their number."""
        kept = (self.read_training(CONFIRMATIONS, name, number) for number in itertools.count())
        return list(itertools.takewhile(bool, kept))

    def _training(self, place: str, name: str, number: int) -> Path:
        return self.path / place / f"{name}-{number}.json"

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


class _Result(BaseModel):
    """What ``results/N.json`` may hold."""

    values: dict[str, list[float]] = {}
    selection: dict[str, list[float]] = {}
    losses: list[float] = []
    adapter: dict[str, str] = {}
    retrained: float = 0.0


class _Training(BaseModel):
    """What a file of ``confirmations/`` or ``rates/`` may hold."""

    seed: int = 0
    data_seed: int = 0
    values: dict[str, list[float]] = {}
    seconds: float = 0.0
    reason: str = ""


class _Test(BaseModel):
    """What ``test.json`` may hold."""

    trials: dict[str, int] = {}
    values: dict[str, list[float]] = {}
    metrics: dict[str, dict[str, float]] = {}
    examples: list[dict[str, Any]] = []


def _read_json(path: Path, kind: type[BaseModel]) -> dict[str, Any]:
    """The content of a file of this kind; empty where there is none.

    Raises:
        RankSearchError: it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        kind.model_validate(content)
    except (ValueError, RecursionError):
        raise RankSearchError(f"{path}: is damaged; restore it, or remove it to do without") from None
    return content
