"""The folder of a report: which of its files are the report's, and how a new report takes the place of an older one."""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from rank_search.core.errors import InputError, RankSearchError
from rank_search.core.files import folder_beside, move_file, write_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from rank_search.study.metadata import StudyMetadata

MANIFEST = "manifest.json"
PAGE = "index.html"
_PATIENCE = 60.0  # seconds to wait for another process that puts its report here, which takes it a moment
# The files of reports that were written before they had a manifest.
_OLDER_NAMES = (
    *("hypervolume.png", "hypervolume_seconds.png", "importance.png", PAGE, "losses.png", "nested.png"),
    *("paper/front.tex", "paper/hypervolume.pdf", "paper/pareto.pdf", "paper/rank_heatmap.pdf", "pareto.png"),
    *("pareto.svg", "rank_heatmap.png", "summary.json", "trials.csv"),
)


class Manifest(BaseModel):
    """What ``manifest.json`` says of a report.

    Attributes:
        owner: the identity of the study, or of the studies that are compared.
        files: paths of the report's own files in its folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    owner: str
    files: tuple[str, ...]

    @field_validator("files")
    @classmethod
    def _inside(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        if any(PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts for name in files):
            raise ValueError("names a file outside the report")
        return files


@dataclass(frozen=True)
class ReportFolder:
    """The folder of one report. Nothing in it is touched but the report's own files, which a manifest names.

    Attributes:
        path: of the folder.
        owner: the identity of the study, or of the studies that are compared.
        older: fields of ``summary.json`` by which an older report without a manifest is known as the study's; empty
            where none can be.
    """

    path: Path
    owner: str
    older: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_study(cls, path: Path, name: str, metadata: StudyMetadata) -> ReportFolder:
        """The folder of the report of a study, given by its name and its metadata."""
        fingerprints = {"data_fingerprint": metadata.data_fingerprint, "model_fingerprint": metadata.model_fingerprint}
        return cls(path, metadata.identity, {"study": name, **fingerprints})

    def check(self) -> None:
        """Checks that a report can be written here.

        Raises:
            InputError: the folder is a link or a file, or holds another study's report or a page of another kind.
        """
        self._check_free([PAGE])

    @contextmanager
    def replaced(self) -> Iterator[Path]:
        """Yields an empty folder to fill; at the end its files take the place of those of the older report.

        The page changes last. If the body raises, the older report stays as it was.

        Raises:
            InputError: see `check`; or a file that is none of the report's has the name of one of its files.
            RankSearchError: another process keeps writing here.
        """
        self.check()
        with self._naming_itself(), folder_beside(self.path) as new:
            yield new
            names = sorted(path.relative_to(new).as_posix() for path in new.rglob("*") if path.is_file())
            names.sort(key=lambda name: name == PAGE)
            with self._locked():
                before = self._check_free(names)
                self._write_manifest({*before, *names})
                for name in names:
                    move_file(new / name, self.path / name)
                self._remove(set(before) - set(names))
                self._write_manifest(names)

    def write_page(self, text: str) -> None:
        """Writes the page alone, and leaves the other files of the report as they are.

        Raises:
            InputError: see `replaced`.
            RankSearchError: another process keeps writing here.
        """
        with self._naming_itself(), self._locked():
            before = self._check_free([PAGE])
            self._write_manifest({*before, PAGE})
            write_text(self.path / PAGE, text)

    def _manifest(self) -> tuple[str, ...]:
        """Paths of the files of the report that is here; none where there is no report.

        Raises:
            InputError: see `check`.
        """
        if self.path.is_symlink():
            raise InputError(
                "is a link, and reports are written into folders of their own; remove the link", file=str(self.path)
            )
        if self.path.exists() and not self.path.is_dir():
            raise InputError("is no folder, and a report is written there; move it away", file=str(self.path))
        try:
            manifest = Manifest.model_validate_json((self.path / MANIFEST).read_bytes())
        except FileNotFoundError:
            return self._older_files()
        except ValidationError:
            raise InputError(
                f"is damaged, or no report's; move {str(self.path)!r} away", file=str(self.path / MANIFEST)
            ) from None
        if manifest.owner != self.owner:
            raise InputError("holds the report of another study; move it away", file=str(self.path))
        return manifest.files

    def _older_files(self) -> tuple[str, ...]:
        """The files of a report that was written before reports had a manifest, if it is the same study's."""
        with suppress(OSError, ValueError):
            summary = json.loads((self.path / "summary.json").read_text(encoding="utf-8"))
            if self.older and isinstance(summary, dict) and self.older.items() <= summary.items():
                return tuple(name for name in _OLDER_NAMES if (self.path / name).is_file())
        return ()

    def _check_free(self, names: Collection[str]) -> tuple[str, ...]:
        """Checks that files of these names can be written; returns the paths of the files of the older report.

        Raises:
            InputError: see `replaced`.
        """
        before = self._manifest()
        for name in names:
            path = self.path / name
            if self._is_behind_link(path):
                raise InputError(
                    "is a link, and files of the report are written there; remove it", file=str(path.parent)
                )
            if name not in before and (path.is_symlink() or path.exists()):
                raise InputError("is no file of this report, which has one of that name; move it away", file=str(path))
        return before

    def _remove(self, names: Collection[str]) -> None:
        for name in sorted(names):
            path = self.path / name
            if self._is_behind_link(path):
                continue
            with suppress(OSError):  # someone else moved it away, or put a folder of files in its place
                path.unlink()
                if path.parent != self.path:
                    path.parent.rmdir()

    def _is_behind_link(self, path: Path) -> bool:
        return any(parent.is_symlink() for parent in path.parents if parent.is_relative_to(self.path))

    def _write_manifest(self, files: Collection[str]) -> None:
        manifest = Manifest(owner=self.owner, files=tuple(sorted({*files, MANIFEST})))
        write_text(self.path / MANIFEST, manifest.model_dump_json(indent=2) + "\n")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        try:
            lock.acquire(timeout=_PATIENCE)
        except Timeout:
            raise RankSearchError(f"{self.path}: another process is writing a report there; wait for it") from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _naming_itself(self) -> Iterator[None]:
        """Adds the folder to errors of the system that name no file, such as that of a full disk."""
        try:
            yield
        except OSError as error:
            if error.filename is not None or error.errno is None:
                raise
            raise OSError(error.errno, error.strerror, str(self.path)) from None
