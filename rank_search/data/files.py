"""Reads the rows of one local file; its name says the format."""

from __future__ import annotations

import gzip
import json
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rank_search.core.errors import InputError
from rank_search.data.delimited import read_csv, read_tsv
from rank_search.data.limits import check_size
from rank_search.data.squad import squad_rows
from rank_search.data.tables import read_parquet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rank_search.data.tables import Row

FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_ARCHIVES = (".zip", ".tar", ".tgz", ".bz2", ".xz", ".zst", ".7z")
_CHUNK = 1 << 20


def file_format(path: Path) -> str | None:
    """The format of a file by its name, such as ``.jsonl`` for ``a.jsonl`` and ``a.jsonl.gz``; None if unknown."""
    name = path.name.lower().removesuffix(".gz")
    known = next((suffix for suffix in FORMATS if name.endswith(suffix)), None)
    return None if known == ".parquet" and is_compressed(path) else known


def is_compressed(path: Path) -> bool:
    """Whether a file is compressed by gzip, by its name."""
    return path.suffix.lower() == ".gz"


def read_file(path: Path) -> list[Row]:
    """Reads the rows of a local file.

    Raises:
        InputError: the file can't be read; the message names the file, and the line if one is wrong.
    """
    with _read_errors_named(path):
        match file_format(path):
            case ".parquet":
                return read_parquet(path)
            case ".json":
                return _read_json(path)
            case ".csv":
                return read_csv(_decoded(path), str(path))
            case ".tsv":
                return read_tsv(_decoded(path), str(path))
            case ".jsonl" | ".ndjson":
                return list(read_jsonl(path))
    advice = "unpack it, and name what is in it" if path.suffix.lower() in _ARCHIVES else "use one of"
    known = "" if path.suffix.lower() in _ARCHIVES else f" {', '.join(FORMATS)}, or .gz after one of them"
    raise InputError(f"{path.name!r} has an unknown format; {advice}{known}", field="task.data")


@contextmanager
def _read_errors_named(path: Path) -> Iterator[None]:
    """Turns an exception of a reader into an `InputError` that names the file."""
    try:
        yield
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"line {line} is not UTF-8 ({error.reason}); save it as UTF-8", file=str(path)) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"is not a whole gzip file ({error}); compress it again", file=str(path)) from None
    except OSError as error:
        raise InputError(f"can't be read ({error.strerror or error}); check its permissions", file=str(path)) from None


def _content(path: Path) -> bytes:
    """The bytes of a file, decompressed, if memory can hold them."""
    check_size(path.stat().st_size, str(path))
    if not is_compressed(path):
        return path.read_bytes()
    content = bytearray()
    with gzip.open(path) as file:
        while chunk := file.read(_CHUNK):
            content += chunk
            check_size(len(content), str(path))
    return bytes(content)


def _decoded(path: Path) -> str:
    # The file is decoded as a whole, so that the position of a wrong byte counts from the start of the file.
    return _content(path).decode("utf-8-sig")


def read_jsonl(path: Path) -> Iterator[Row]:
    """Reads the objects of a JSONL file, one per line; empty lines are skipped.

    Raises:
        InputError: a line is not a JSON object.
    """
    with _read_errors_named(path):
        lines = _content(path).splitlines()
    # Each line is decoded separately, so that the message names the line of a wrong byte.
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8")) if line.strip() else None
        except UnicodeDecodeError as error:
            raise InputError(f"line {number} is not UTF-8 ({error.reason}); save it as UTF-8", file=str(path)) from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"line {number} is not JSON ({error}); fix the line", file=str(path)) from None
        if isinstance(row, dict):
            yield row
        elif line.strip():
            raise InputError(
                f'line {number} is not a JSON object; write {{"column": value}}, or name a list of objects .json',
                file=str(path),
            )


def _read_json(path: Path) -> list[Row]:
    """Reads a JSON file: SQuAD's format, a list of objects, or an object a line as in JSONL."""
    try:
        content = json.loads(_decoded(path))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # a value ended and another began, as in JSONL
            return list(read_jsonl(path))
        raise InputError(f"line {error.lineno} is not JSON ({error.msg}); fix the line", file=str(path)) from None
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"is JSON that can't be read ({error}); fix it", file=str(path)) from None
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        return content
    rows = squad_rows(content)
    if rows is None:
        raise InputError(
            "is neither in SQuAD's format (data, paragraphs, qas, answers) nor a list of objects, nor an object a "
            "line; use one of them",
            file=str(path),
        )
    return list(rows)
