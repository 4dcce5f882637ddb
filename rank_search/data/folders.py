"""The parts of a folder of data files: one file each, or the shards ``NAME-00000-of-00003.parquet``."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rank_search.core.errors import InputError, did_you_mean
from rank_search.core.files import local_path
from rank_search.data.files import file_format, is_compressed

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHARD = re.compile(r"(?P<part>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})(-[0-9a-f]+)?")
_SUBFOLDER = "data"  # where repositories of the hub keep their files


@dataclass(frozen=True)
class DataFile:
    """A data file and what its name says.

    Attributes:
        path: the file.
        part: name of the part that it holds, or holds a shard of.
        number: number of the shard, from 0; None if the file is whole.
        total: how many shards there are; None if the file is whole.
    """

    path: Path
    part: str
    number: int | None = None
    total: int | None = None

    @classmethod
    def from_path(cls, path: Path) -> DataFile:
        """Reads the name of a file whose format is known."""
        name = path.name[:-3] if is_compressed(path) else path.name
        stem = Path(name).stem
        shard = _SHARD.fullmatch(stem)
        if shard is None:
            return cls(path, stem)
        return cls(path, shard["part"], int(shard["number"]), int(shard["total"]))


def part_files(folder: Path, name: str, field: str) -> list[Path]:
    """The files of one part, in the order of its shards.

    Args:
        folder: a folder of data files, or a copy of a hub repository with its folder ``data``.
        name: a file in the folder, or the name of a part, such as ``train``.
        field: of the study file, for error messages.

    Raises:
        InputError: there is no such part, several files could be meant, or a shard is missing.
    """
    if local_path(str(folder / name), field).is_file():
        check_whole(folder / name, field)
        return [folder / name]
    kinds: dict[tuple[Path, str | None], list[DataFile]] = defaultdict(list)
    for file in data_files(folder):
        if file.part == name:
            kinds[file.path.parent, file_format(file.path)].append(file)
    if not kinds:
        raise InputError(
            f"{name!r} is not a file in {str(folder)!r}; {_known(name, folder)}",
            field=field,
        )
    files = sorted((file for kind in kinds.values() for file in kind), key=lambda file: str(file.path))
    if len(kinds) > 1 or (len(files) > 1 and any(file.total is None for file in files)):
        names = ", ".join(str(file.path.relative_to(folder)) for file in files[:3])
        raise InputError(f"{name!r} may be any of {names}; write the name of one file", field=field)
    _check_shards(files, folder, name, field)
    return [file.path for file in files]


def check_whole(path: Path, field: str) -> None:
    """Checks that a file is not one of several shards.

    Raises:
        InputError: it is one of several.
    """
    if file_format(path) is None:
        return
    file = DataFile.from_path(path)
    if file.total is not None and file.total > 1:
        raise InputError(
            f"{path.name!r} is one of {file.total} shards; name its folder as the source and write {file.part!r} to "
            "read all of them, or rename the file to use it alone",
            field=field,
        )


def _check_shards(files: Sequence[DataFile], folder: Path, name: str, field: str) -> None:
    """Refuses a part of which a shard is missing, or which is there twice."""
    totals = {file.total for file in files}
    expected = list(range(files[0].total or 0))
    if files[0].total is not None and (len(totals) > 1 or [file.number for file in files] != expected):
        numbers = {file.number for file in files}
        missing = [number for number in expected if number not in numbers]
        problem = f"lacks the shard {missing[0]:05d} of {files[0].total}" if missing else "has shards of two versions"
        raise InputError(f"{name!r} in {str(folder)!r} {problem}; download the data again", field=field)


def _known(name: str, folder: Path) -> str:
    """What else could have been written."""
    known = part_names(folder)
    inside = sorted(path.name for path in folder.iterdir() if path.is_dir() and data_files(path))
    if not known and inside:
        return f"its data is in the folders {', '.join(inside[:5])}; name one of them as the source"
    return did_you_mean(name, known)


def part_names(folder: Path) -> list[str]:
    """The names that a part may have in the study file, in alphabetical order: files, and parts that have shards."""
    return sorted(
        {
            file.path.name if file.total is None and file.path.parent == folder else file.part
            for file in data_files(folder)
        }
    )


def data_files(folder: Path) -> list[DataFile]:
    """The data files in a folder and in its folder ``data``."""
    found = [folder, folder / _SUBFOLDER]
    return [
        DataFile.from_path(path)
        for inside in found
        if inside.is_dir()
        for path in sorted(inside.iterdir())
        if path.is_file() and not path.name.startswith(".") and file_format(path) is not None
    ]
