"""Arrow tables: Parquet files, data sets of the hub, and data sets that ``save_to_disk`` wrote.

All of them become rows in the same way: numbers of classes are replaced by names, where the table has names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from rank_search.core.errors import InputError, did_you_mean
from rank_search.core.extras import is_installed, require_extra
from rank_search.data.limits import check_size, memory_limit

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import Dataset

    from rank_search.config import DataConfig

Row = Mapping[str, Any]
_BATCH = 1024  # rows that are decompressed together


def read_parquet(path: Path) -> list[Row]:
    """Reads the rows of a Parquet file.

    Raises:
        InputError: the file is damaged, or holds more than fits into memory.
    """
    require_extra("datasets", "a Parquet file", file=str(path))
    import pyarrow as pa
    from datasets import Dataset
    from datasets.table import InMemoryTable
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            tables = [_without_dictionaries(file.schema_arrow.empty_table())]
            size = 0
            for batch in file.iter_batches(_batch_size(file.metadata)):
                tables.append(_without_dictionaries(pa.Table.from_batches([batch])))
                size += tables[-1].nbytes
                check_size(size, str(path))
        return _rows(Dataset(InMemoryTable(pa.concat_tables(tables))), str(path))
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(f"is not a Parquet file ({_first_line(error)}); export it again", file=str(path)) from None


def _batch_size(metadata: Any) -> int:
    """Rows to decompress together: fewer where a single value may be large."""
    largest = max(
        (
            metadata.row_group(group).column(column).total_uncompressed_size
            for group in range(metadata.num_row_groups)
            for column in range(metadata.num_columns)
        ),
        default=0,
    )
    return int(max(1, min(_BATCH, memory_limit() // max(1, largest))))


def _without_dictionaries(table: Any) -> Any:
    """The table with the values of dictionary-encoded columns, such as pandas' categories; datasets refuses codes."""
    import pyarrow as pa

    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(i, field.name, table.column(i).cast(field.type.value_type))
    return table


def is_saved(folder: Path) -> bool:
    """Whether ``save_to_disk`` of the datasets library wrote a folder."""
    single = (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    return single or (folder / "dataset_dict.json").is_file()


def saved_splits(folder: Path) -> list[str]:
    """Names of the splits in a folder that ``save_to_disk`` wrote; empty if it holds a single data set.

    Raises:
        InputError: the folder's list of splits is damaged.
    """
    path = folder / "dataset_dict.json"
    if not path.is_file():
        return []
    try:
        return [str(name) for name in json.loads(path.read_bytes())["splits"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError("is damaged; save the data set again", file=str(path)) from None


def read_saved(folder: Path, data: DataConfig, part: str) -> list[Row]:
    """Reads one part of a data set that ``save_to_disk`` wrote.

    Raises:
        InputError: there is no such part, or it can't be read.
    """
    require_extra("datasets", f"{str(folder)!r}, which the datasets library saved,", field="task.data.source")
    from datasets import Dataset, load_from_disk
    from datasets.exceptions import DatasetsError

    name, splits = getattr(data, part), saved_splits(folder)
    if splits and name not in splits:
        raise InputError(
            f"{name!r} is no split of {str(folder)!r}; {did_you_mean(name, splits)}", field=f"task.data.{part}"
        )
    if not splits and part != "train":
        raise InputError(
            f"{name!r}: {str(folder)!r} is a single data set and has no such part; leave it out to split it off",
            field=f"task.data.{part}",
        )
    source = folder / name if splits else folder
    try:
        table = load_from_disk(str(source))
    except (DatasetsError, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"can't be read ({_first_line(error)}); save the data set again", file=str(source)) from None
    if not isinstance(table, Dataset):
        raise InputError("is a set of data sets; name one of its folders", file=str(source))
    return _rows(table, str(source))


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


def read_hub(data: DataConfig, part: str) -> list[Row]:
    """Reads one part of a hub data set.

    Raises:
        InputError: the hub has no such data set or part, or can't be reached.
    """
    purpose = f"{data.source!r} is not a file or folder here, and a hub data set"
    require_extra("datasets", purpose, field="task.data.source")
    from datasets import load_dataset
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
    return _rows(table, data.source)


def _rows(table: Dataset, file: str) -> list[Row]:
    """The rows of a table, without images and sound, with class names in the place of class numbers."""
    media = [name for name, feature in table.features.items() if hasattr(feature, "decode_example")]
    table = table.remove_columns(media)
    check_size(table.data.nbytes, file)
    rows: list[dict[str, Any]] = table.to_list()
    for name in [name for name, feature in table.features.items() if _has_classes(feature)]:
        for number, row in enumerate(rows, start=1):
            try:
                row[name] = _with_class_names(table.features[name], row[name])
            except ValueError as error:  # a number beyond the last name
                raise InputError(f"row {number} has no class in column {name!r} ({error}); fix it", file=file) from None
    return list(rows)


def _has_classes(feature: Any) -> bool:
    from datasets import ClassLabel

    if isinstance(feature, dict):
        return any(_has_classes(part) for part in feature.values())
    return isinstance(feature, ClassLabel) or _has_classes(getattr(feature, "feature", {}))


def _with_class_names(feature: Any, value: Any) -> Any:
    """A value with names in the place of class numbers; -1, which hub data sets use for an unknown class, is None."""
    from datasets import ClassLabel

    if value is None:
        return None
    if isinstance(feature, ClassLabel):
        return None if value < 0 else str(feature.int2str(value))
    if isinstance(feature, dict):
        return {name: _with_class_names(part, value[name]) for name, part in feature.items()}
    if isinstance(value, list):
        return [_with_class_names(feature.feature, item) for item in value]
    return value


def _first_line(error: Exception) -> str:
    return next(islice(str(error).splitlines(), 1), type(error).__name__)
