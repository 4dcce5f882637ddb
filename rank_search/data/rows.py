"""Reads the rows of a data set; each row is a dictionary of column → value.

Local files are read here, so that an error message names the file and the line. The ``datasets`` library
reads hub data sets.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rank_search.core.errors import InputError, did_you_mean
from rank_search.core.extras import is_installed, require_extra

if TYPE_CHECKING:
    from rank_search.config import DataConfig

Row = Mapping[str, Any]
FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


def read_rows(data: DataConfig, part: str) -> list[Row]:
    """The rows of one part of a data set.

    Args:
        data: location of the data set.
        part: the field of ``data`` that names it: ``train``, ``validation`` or ``test``.

    Raises:
        InputError: the part can't be found or read, or is empty.
    """
    name = getattr(data, part)
    source = Path(data.source).expanduser()
    if source.is_file():
        rows = read_file(source)
        if part != "train":
            raise InputError(
                f"{name!r}: {data.source!r} is a single file and has no such part; name its folder as the source, "
                "and the files in it",
                field=f"task.data.{part}",
            )
    elif source.is_dir():
        file = source / name
        if not file.is_file():
            names = [path.name for path in source.iterdir() if path.suffix in FORMATS]
            raise InputError(
                f"{name!r} is not a file in {data.source!r}; {did_you_mean(name, names)}", field=f"task.data.{part}"
            )
        rows = read_file(file)
    else:
        rows = _read_hub(data, part)
    if not rows:
        raise InputError(f"{part_location(data, part)} has no rows; name another part", field=f"task.data.{part}")
    return rows


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
    for number, row in enumerate(rows, start=1):
        value = row.get(name)
        if value is None or (isinstance(value, str) and not value):
            raise InputError(f"row {number} is empty in column {name!r}; fill it, or remove the row")
        if isinstance(value, str) and not is_text(value):
            raise InputError(
                f"row {number} has half a character (a lone UTF-16 surrogate) in column {name!r}; fix or remove the row"
            )
    return [row[name] for row in rows]


def is_text(value: object) -> bool:
    """Whether a value is a text that UTF-8 can encode: JSON may hold lone surrogates, such as half an emoji."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_file(path: Path) -> list[Row]:
    """Reads the rows of a local file; its suffix says the format.

    Raises:
        InputError: the file can't be read; the message names the file, and the line if one is wrong.
    """
    readers = {
        ".jsonl": _read_jsonl,
        ".ndjson": _read_jsonl,
        ".json": _read_json,
        ".csv": _read_csv,
        ".tsv": _read_csv,
        ".parquet": _read_parquet,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path.name!r} has an unknown format; use one of {', '.join(FORMATS)}", field="task.data")
    with _read_errors_named(path):
        return reader(path)


@contextmanager
def _read_errors_named(path: Path) -> Iterator[None]:
    """Turns an exception of a reader into an `InputError` that names the file."""
    try:
        yield
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"line {line} is not UTF-8 ({error.reason}); save it as UTF-8", file=str(path)) from None
    except csv.Error as error:
        raise InputError(f"is not a valid CSV file ({error}); fix it", file=str(path)) from None
    except OSError as error:
        raise InputError(f"can't be read ({error.strerror or error}); check its permissions", file=str(path)) from None


def _read_jsonl(path: Path) -> list[Row]:
    return list(read_jsonl(path))


def read_jsonl(path: Path) -> Iterator[Row]:
    """Reads the objects of a JSONL file, one per line; empty lines are skipped.

    Raises:
        InputError: a line is not a JSON object.
    """
    # Each line is decoded separately, so that the message names the line of a wrong byte.
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8")) if line.strip() else None
        except UnicodeDecodeError as error:
            raise InputError(f"line {number} is not UTF-8 ({error.reason}); save it as UTF-8", file=str(path)) from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"line {number} is not JSON ({error}); fix the line", file=str(path)) from None
        if isinstance(row, dict):
            yield row
        elif line.strip():
            raise InputError(f'line {number} is not a JSON object; write {{"column": value}}', file=str(path))


def _read_json(path: Path) -> list[Row]:
    """Reads a JSON file: SQuAD's format, or a list of objects."""
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise InputError(f"line {error.lineno} is not JSON ({error.msg}); fix the line", file=str(path)) from None
    except RecursionError as error:
        raise InputError(f"is JSON that is nested too deeply ({error}); flatten it", file=str(path)) from None
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        return content
    try:
        return [
            {
                "title": article.get("title", ""),
                "context": paragraph["context"],
                "question": question["question"],
                "answers": [answer["text"] for answer in question["answers"]],
            }
            for article in content["data"]
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
            if question["answers"]  # SQuAD 2.0 has questions without an answer, which can't be trained on
        ]
    except (KeyError, TypeError):
        raise InputError(
            "is neither in SQuAD's format (data, paragraphs, qas, answers) nor a list of objects; use one of them",
            file=str(path),
        ) from None


def _read_csv(path: Path) -> list[Row]:
    # The file is decoded as a whole, so that the position of a wrong byte counts from the start of the file.
    with StringIO(path.read_bytes().decode("utf-8-sig"), newline="") as file:
        reader = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        names = list(reader.fieldnames or ())
        if repeated := [name for name in names if names.count(name) > 1]:
            raise InputError(f"has two columns named {repeated[0]!r}; rename or remove one", file=str(path))
        rows: list[Row] = []
        for row in reader:
            if None in row or None in row.values():
                raise InputError(
                    f"line {reader.line_num} does not have the {len(names)} columns of the first line; fix the line",
                    file=str(path),
                )
            rows.append(row)
        return rows


def _read_parquet(path: Path) -> list[Row]:
    import pandas as pd

    require_extra("datasets", "a Parquet file", file=str(path))
    try:
        table = pd.read_parquet(path)
    except ValueError as error:  # pyarrow's own errors are ValueErrors
        raise InputError(f"is not a Parquet file ({error}); export it again", file=str(path)) from None
    return [
        {str(name): value for name, value in row.items()}
        for row in table.astype(object).where(table.notna(), None).to_dict(orient="records")
    ]


def hub_splits(source: str) -> list[str]:
    """Names of the splits of a hub data set.

    Returns ``["train"]`` if the hub can't be asked; reading the data set then raises an error with the reason.
    """
    if not is_installed("datasets"):
        return ["train"]
    from datasets import get_dataset_split_names
    from datasets.exceptions import DatasetsError

    try:
        names: list[str] = get_dataset_split_names(source)
    except (DatasetsError, OSError, RuntimeError, ValueError):
        return ["train"]
    return names


def _read_hub(data: DataConfig, part: str) -> list[Row]:
    """Reads the rows of a hub data set; class numbers are replaced by class names."""
    if data.source.startswith((".", "/", "~")) or Path(data.source).suffix in FORMATS:
        raise InputError(
            f"{data.source!r} is neither a file nor a folder here; check the path", field="task.data.source"
        )
    purpose = f"{data.source!r} is not a file or folder here, and a hub data set"
    require_extra("datasets", purpose, field="task.data.source")
    from datasets import ClassLabel, load_dataset
    from datasets.exceptions import DatasetsError

    try:
        table = load_dataset(data.source, data.config, split=getattr(data, part), revision=data.revision)
    except (DatasetsError, OSError, RuntimeError) as error:  # RuntimeError: a data set that needs a script
        raise InputError(
            f"{data.source!r} is not a file or folder here, and it can't be loaded as a hub data set "
            f"({_first_line(error)}); without a network, name a file or a folder",
            field="task.data.source",
        ) from None
    except ValueError as error:  # unknown split or configuration; the message lists the known ones
        raise InputError(f"{data.source!r}: {_first_line(error)}", field=f"task.data.{part}") from None
    labels = {name: feature for name, feature in table.features.items() if isinstance(feature, ClassLabel)}
    return [{**row, **{name: _class_name(feature, row[name]) for name, feature in labels.items()}} for row in table]


def _class_name(feature: Any, number: int | None) -> str | None:
    """The name of a class; None for -1, which hub data sets use for an unknown class."""
    return None if number is None or number < 0 else str(feature.int2str(number))


def _first_line(error: Exception) -> str:
    return next(islice(str(error).splitlines(), 1), type(error).__name__)
