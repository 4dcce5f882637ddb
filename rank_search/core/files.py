"""Files and folders that are never there by halves, whatever moment the process dies at."""

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
    """Writes a text in one step."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a name to write to; at the end, after fsync, that file takes the place of ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    yield partial
    _flush(partial)
    partial.replace(path)
    _flush(path.parent)


@contextmanager
def whole_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """Gives an empty folder to fill; at the end it takes the place of ``folder``.

    If the body raises, ``folder`` is as it was. What is there never is half a folder; while one is
    replaced there is a moment, between two renames, at which there is none.

    Args:
        folder: what to write; without ``replace`` it must be empty or not exist.
        replace: an older folder of that name, with all that is in it, is to go.

    Raises:
        OSError: ``folder`` can't be written, or holds something and is not to be replaced.
    """
    folder = folder.resolve()
    # Names that nobody else gives, as what a killed process left under them is removed.
    partial, old = (folder.with_name(f".{folder.name}.rank_search.{word}") for word in ("partial", "old"))
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for path in partial.rglob("*"):
            _flush(path)
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
    _flush(folder.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
