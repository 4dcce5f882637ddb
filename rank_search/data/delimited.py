"""CSV and TSV files."""

from __future__ import annotations

import csv
import re
import sys
from contextlib import contextmanager
from io import StringIO
from typing import TYPE_CHECKING, Any, NamedTuple

from rank_search.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rank_search.data.tables import Row

_QUOTED = re.compile(r'"(?:[^"]|"")*"')  # a whole field in quotation marks, those inside it doubled


class Record(NamedTuple):
    """The fields of a row, and the line of the file in which it starts."""

    line: int
    fields: list[str]


def read_csv(content: str, file: str) -> list[Row]:
    """The rows of a CSV file, whose columns are separated by commas, or by the semicolons or tabs of its first line.

    Raises:
        InputError: a line is wrong; the message names it.
    """
    return _rows(_records(content, _delimiter(content), file), file)


def read_tsv(content: str, file: str) -> list[Row]:
    """The rows of a TSV file.

    Some programs quote fields in TSV as in CSV; in most TSV files a quotation mark is a character like any other.
    It is one if every line has all columns, and a field starts with a quotation mark that the field does not close.

    Raises:
        InputError: a line is wrong, or it can't be said whether quotation marks join lines; the message names it.
    """
    plain = list(_records(content, "\t", file, quoting=csv.QUOTE_NONE))
    widths = {len(record.fields) for record in plain}
    opened = [field for record in plain for field in record.fields if field.startswith('"')]
    if len(widths) == 1 and widths != {1} and not all(_QUOTED.fullmatch(field) for field in opened):
        return _rows(iter(plain), file)
    records = list(_records(content, "\t", file))
    _check_joined_lines(records, plain, file)
    return _rows(iter(records), file)


def _check_joined_lines(records: list[Record], plain: list[Record], file: str) -> None:
    """Refuses rows over several lines if each of the lines is a whole row without its quotation marks."""
    if not records:
        return
    columns = len(records[0].fields)
    whole = {record.line for record in plain if len(record.fields) == columns}
    ends = [record.line for record in records[1:]] + [plain[-1].line + 1]
    for record, end in zip(records, ends, strict=True):
        if columns > 1 and end - record.line > 1 and whole.issuperset(range(record.line, end)):
            raise InputError(
                f"a quotation mark in line {record.line} joins it to the next {end - record.line - 1} lines, which "
                "look like rows; remove the mark, or write the data as JSONL",
                file=file,
            )


def _delimiter(content: str) -> str:
    first_line = re.sub(r'"[^"]*"', "", content.lstrip("\r\n").split("\n", 1)[0])
    return next((delimiter for delimiter in ",;\t" if delimiter in first_line), ",")


def _records(content: str, delimiter: str, file: str, quoting: Any = csv.QUOTE_MINIMAL) -> Iterator[Record]:
    """The records of a file; empty lines are skipped."""
    reader = csv.reader(StringIO(content, newline=""), delimiter=delimiter, strict=True, quoting=quoting)
    while True:
        line = reader.line_num + 1
        try:
            with _no_field_limit():
                fields = next(reader, None)
        except csv.Error as error:
            lines = f"line {line}" if reader.line_num <= line else f"the row of lines {line} to {reader.line_num}"
            raise InputError(
                f"{lines} has a quotation mark out of place ({error}); double the quotation marks inside a text, and "
                "close the text with one",
                file=file,
            ) from None
        if fields is None:
            return
        if fields:
            yield Record(line, fields)


@contextmanager
def _no_field_limit() -> Iterator[None]:
    """Lifts the limit of 131,072 characters a field, which the csv module keeps for all its readers."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _rows(records: Iterator[Record], file: str) -> list[Row]:
    """Rows by the names of the first record."""
    names = next(records, Record(1, [])).fields
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InputError(f"has two columns named {repeated[0]!r}; rename or remove one", file=file)
    rows: list[Row] = []
    for line, fields in records:
        if len(fields) != len(names):
            raise InputError(
                f"line {line} does not have the {len(names)} columns of the first line; fix the line", file=file
            )
        rows.append(dict(zip(names, fields, strict=True)))
    return rows
