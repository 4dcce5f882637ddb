"""Study files: where they are found, how they are read and written, and which one an error is about."""

from __future__ import annotations

from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from rank_search.config import StudyConfig, load_config, source_of
from rank_search.core.errors import InputError
from rank_search.core.files import write_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SHIPPED = Path("configs")


def find_study_file(path: Path) -> Path:
    """The path itself, or where the package has the file if it is one of ours, such as ``configs/demo.yaml``."""
    if path.exists() or path.parent != _SHIPPED:
        return path
    package = Path(str(files("rank_search")))
    # In a wheel the configs are inside the package; in a checkout, beside it.
    candidates = [parent / _SHIPPED / path.name for parent in (package, package.parent)]
    return next((candidate for candidate in candidates if candidate.is_file()), path)


def load_study_file(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Reads a study file, also one that ships with the package, and applies overrides.

    Raises:
        InputError: the file is missing, is not YAML, or has a wrong value.
    """
    return load_config(find_study_file(path), overrides)


@contextmanager
def naming_source(path: Path, overrides: Sequence[str] = ()) -> Iterator[None]:
    """Adds the study file, or ``--set``, to errors about fields that can be checked only with the model or the study.

    Raises:
        InputError: the one that was raised inside, with its source.
    """
    try:
        yield
    except InputError as error:
        if error.field is None or error.field.startswith("--"):
            raise
        raise error.in_file(source_of(error.field, path, overrides)) from None


def write_study_file(text: str, path: Path) -> None:
    """Checks the text of a study file, and writes it to a new file.

    Raises:
        InputError: the file exists.
        ValidationError: the text is not a valid study file.
    """
    if path.exists():
        raise InputError(f"{str(path)!r} exists; name another", field="--out")
    StudyConfig.model_validate(yaml.safe_load(text))
    write_text(path, text)
