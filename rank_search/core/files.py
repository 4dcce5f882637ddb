"""Paths that users name, and atomic writing: a process that is killed leaves no half-written file behind."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import shutil
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

from rank_search.core.errors import InputError
from rank_search.core.processes import is_left_over, unique_name

if TYPE_CHECKING:
    from collections.abc import Iterator


def local_path(source: str, field: str) -> Path:
    """The path that a setting names, with ``~`` for the home folder; there may be nothing.

    Raises:
        InputError: no file can have such a name.
    """
    try:
        path = Path(source).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:  # RuntimeError: ~name of a user that does not exist
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{source[:80]!r} can't be a path ({reason}); check it", field=field) from None
    return path


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file atomically."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path to write to; at the end it is synced to disk and renamed to ``path``.

    If the body raises, ``path`` stays as it was. Of several processes that write the same file, the last one wins.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync(path.parent)


@contextmanager
def atomic_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yields an empty temporary folder to fill; at the end it is renamed to ``folder``.

    If the body raises, ``folder`` stays as it was. A reader never sees a half-written folder. Replacing takes
    two renames, and between them there is no folder of that name for a moment. Of several processes that replace the
    same folder, the last one wins; without ``replace`` it is the first, and the others fail.

    Args:
        folder: the folder to write; without ``replace`` it must be empty or not exist.
        replace: whether to remove an older folder of that name with everything in it.

    Raises:
        OSError: ``folder`` can't be written, or it is not empty and ``replace`` is false.
    """
    folder = folder.resolve()
    with folder_beside(folder) as work:
        new = work / "new"
        new.mkdir()
        yield new
        for path in new.rglob("*"):
            _sync(path)
        if replace:
            _replace(folder, new, work)
        else:
            new.rename(folder)
    _sync(folder.parent)


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Yields an empty temporary folder beside a path, which no other process uses; at the end it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    work = _partial(path)
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def move_file(file: Path, to: Path) -> None:
    """Moves a file within one disk, into the place of an older one; a reader sees the old or the new file, whole."""
    to.parent.mkdir(parents=True, exist_ok=True)
    _sync(file)
    file.replace(to)
    _sync(to.parent)


def _replace(folder: Path, new: Path, work: Path) -> None:
    """Puts a new folder in the place of an older one, which goes to ``work``."""
    for turn in itertools.count():
        old = work / f"old-{turn}"
        if folder.exists():
            with suppress(FileNotFoundError):  # another process has just moved it away
                folder.rename(old)
        try:
            new.rename(folder)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:  # else another process has just put its own there
                with suppress(OSError):
                    old.rename(folder)
                raise
        else:
            return


def _partial(path: Path) -> Path:
    """A place beside a path to write to, which no other process uses; what dead processes left there is removed."""
    before, after = f".{path.name}.", ".partial"
    for found in path.parent.glob(f"{escape(before)}*{after}"):
        if is_left_over(found.name.removeprefix(before).removesuffix(after)):
            shutil.rmtree(found, ignore_errors=True) if found.is_dir() else found.unlink(missing_ok=True)
    return path.with_name(f"{before}{unique_name()}{after}")


def _sync(path: Path) -> None:
    """Waits until the disk holds a file or a folder entry."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
