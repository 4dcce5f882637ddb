"""Atomic writing of files and folders: a process that is killed leaves no half-written file behind."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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

    If the body raises, ``path`` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    yield partial
    _sync(partial)
    partial.replace(path)
    _sync(path.parent)


@contextmanager
def atomic_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yields an empty temporary folder to fill; at the end it is renamed to ``folder``.

    If the body raises, ``folder`` stays as it was. A reader never sees a half-written folder. Replacing takes
    two renames, and between them there is no folder of that name for a moment.

    Args:
        folder: the folder to write; without ``replace`` it must be empty or not exist.
        replace: whether to remove an older folder of that name with everything in it.

    Raises:
        OSError: ``folder`` can't be written, or it is not empty and ``replace`` is false.
    """
    folder = folder.resolve()
    # The names are unique to this package, because leftovers of a killed process under them are removed.
    partial, old = (folder.with_name(f".{folder.name}.rank_search.{word}") for word in ("partial", "old"))
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for path in partial.rglob("*"):
            _sync(path)
        if folder.exists():
            if replace:
                folder.rename(old)
            else:
                folder.rmdir()
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    """Waits until the disk holds a file or a folder entry."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
