"""The rows of a data set and their columns; each row is a dictionary of column → value."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rank_search.core.errors import InputError, did_you_mean
from rank_search.core.files import local_path
from rank_search.data.files import file_format, read_file
from rank_search.data.folders import check_whole, part_files
from rank_search.data.limits import LONGEST_TEXT
from rank_search.data.tables import Row, is_saved, read_hub, read_saved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rank_search.config import DataConfig

__all__ = [
    "Row",
    "as_text",
    "class_column",
    "column",
    "is_empty",
    "is_text",
    "part_location",
    "read_rows",
    "text_column",
]

_SHOWN = 60  # characters of a wrong value that a message shows


def read_rows(data: DataConfig, part: str) -> list[Row]:
    """The rows of one part of a data set.

    Args:
        data: location of the data set.
        part: the field of ``data`` that names it: ``train``, ``validation`` or ``test``.

    Raises:
        InputError: the part can't be found or read, or is empty.
    """
    name = getattr(data, part)
    source = local_path(data.source, "task.data.source")
    if source.is_file() or source.is_dir():
        _check_no_hub_fields(data)
    if source.is_file():
        rows = _read_single_file(source, data, part)
    elif is_saved(source):
        rows = read_saved(source, data, part)
    elif source.is_dir():
        rows = [row for file in part_files(source, name, f"task.data.{part}") for row in read_file(file)]
    elif data.source.startswith((".", "/", "~")) or file_format(source) is not None:
        raise InputError(
            f"{data.source!r} is neither a file nor a folder here; check the path", field="task.data.source"
        )
    else:
        rows = read_hub(data, part)
    if not rows:
        raise InputError(f"{part_location(data, part)} has no rows; name another part", field=f"task.data.{part}")
    return rows


def _check_no_hub_fields(data: DataConfig) -> None:
    for name in ("config", "revision"):
        if (value := getattr(data, name)) is not None:
            raise InputError(
                f"{value!r}: {data.source!r} is no hub data set and has no {name}; leave it out",
                field=f"task.data.{name}",
            )


def _read_single_file(source: Path, data: DataConfig, part: str) -> list[Row]:
    if part != "train":
        raise InputError(
            f"{getattr(data, part)!r}: {data.source!r} is a single file and has no such part; name its folder as the "
            "source, and the files in it",
            field=f"task.data.{part}",
        )
    check_whole(source, "task.data.source")
    return read_file(source)


def part_location(data: DataConfig, part: str) -> str:
    """The file of a part, or its split of a hub data set, for an error message about a row."""
    name, source = getattr(data, part), Path(data.source).expanduser()
    return str(source) if source.is_file() else str(source / name) if source.is_dir() else f"{data.source} ({name})"


def column(rows: Sequence[Row], name: str, field: str) -> list[Any]:
    """One column of the rows.

    Raises:
        InputError: the column is missing, or is empty in one of the rows.
    """
    known = rows[0].keys()
    if name not in known:
        raise InputError(f"the data has no column {name!r}; {did_you_mean(name, known)}", field=f"task.columns.{field}")
    empty = [number for number, row in enumerate(rows, start=1) if is_empty(row.get(name))]
    if len(empty) == 1:
        raise InputError(f"row {empty[0]} is empty in column {name!r}; fill it, or remove the row")
    if empty:
        raise InputError(
            f"row {empty[0]} and {len(empty) - 1:,} more are empty in column {name!r}; fill them, or remove the rows"
        )
    return [row[name] for row in rows]


def text_column(rows: Sequence[Row], name: str, field: str) -> list[str]:
    """One column of the rows as texts; numbers are written out.

    Raises:
        InputError: the column is missing, or a row has no text in it.
    """
    return [as_text(value, number, name) for number, value in enumerate(column(rows, name, field), start=1)]


def class_column(rows: Sequence[Row], name: str, field: str) -> list[str]:
    """One column of the rows as names of classes: texts, whole numbers, true and false.

    Raises:
        InputError: the column is missing, or a row has no single class in it.
    """
    values = column(rows, name, field)
    for number, value in enumerate(values, start=1):
        if isinstance(value, float) and not value.is_integer():
            raise InputError(
                f"row {number} has {value!r} in column {name!r}, and a class is a name or a whole number; name the "
                "column of the class"
            )
    return [
        str(value) if isinstance(value, bool) else as_text(value, number, name)
        for number, value in enumerate(values, start=1)
    ]


def as_text(value: Any, row: int, name: str) -> str:
    """A cell that holds one text or one number, as a text.

    Args:
        value: the cell.
        row: its row, for the message.
        name: its column, for the message.

    Raises:
        InputError: it holds something else, a text that UTF-8 can't encode, or one that no model could take.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return str(value)
    if not isinstance(value, str):
        shown = repr(value)
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
        raise InputError(f"row {row} has {shown} in column {name!r}, which is not a text; write one text a row")
    if not is_text(value):
        raise InputError(
            f"row {row} has half a character (a lone UTF-16 surrogate) in column {name!r}; fix or remove the row"
        )
    if len(value) > LONGEST_TEXT:
        raise InputError(
            f"row {row} has a text of {len(value):,} characters in column {name!r}, and {LONGEST_TEXT:,} is the most; "
            "split it, or remove the row"
        )
    return value


def is_empty(value: Any) -> bool:
    """Whether a cell holds nothing: null, NaN, or white space."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and not value.strip())


def is_text(value: object) -> bool:
    """Whether a value is a text that UTF-8 can encode: JSON may hold lone surrogates, such as half an emoji."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
