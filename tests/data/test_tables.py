import json

import pandas as pd
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from pyarrow import parquet

from rank_search.config import DataConfig
from rank_search.core.errors import InputError
from rank_search.data import limits
from rank_search.data.rows import read_rows
from rank_search.data.tables import is_saved, read_parquet, saved_splits

NAMES = ["no", "yes"]
FEATURES = Features(
    {
        "text": Value("string"),
        "label": ClassLabel(names=NAMES),
        "labels": List(ClassLabel(names=NAMES)),
        "answers": {"text": List(Value("string")), "answer_start": List(Value("int32"))},
    }
)
ROWS = [
    {"text": "a", "label": 1, "labels": [0, 1], "answers": {"text": ["x"], "answer_start": [0]}},
    {"text": "b", "label": -1, "labels": [], "answers": {"text": [], "answer_start": []}},
]
READ = [
    {"text": "a", "label": "yes", "labels": ["no", "yes"], "answers": {"text": ["x"], "answer_start": [0]}},
    {"text": "b", "label": None, "labels": [], "answers": {"text": [], "answer_start": []}},
]


@pytest.fixture
def dataset() -> Dataset:
    return Dataset.from_list(ROWS, features=FEATURES)


def read(source, part: str = "train", **parts: str):
    return read_rows(DataConfig(source=str(source), **parts), part)


def test_parquet_has_the_class_names_that_the_hub_gives(tmp_path, dataset, monkeypatch) -> None:
    dataset.to_parquet(tmp_path / "train-00000-of-00001.parquet")
    assert read(tmp_path) == READ
    monkeypatch.setattr("datasets.load_dataset", lambda *_arguments, **_settings: dataset)
    assert read("someone/some-data") == READ


def test_saved_data_set_and_saved_splits(tmp_path, dataset) -> None:
    dataset.save_to_disk(tmp_path / "one")
    DatasetDict({"train": dataset, "test": dataset.select([0])}).save_to_disk(tmp_path / "several")
    assert is_saved(tmp_path / "one")
    assert saved_splits(tmp_path / "one") == []
    assert read(tmp_path / "one") == READ
    assert saved_splits(tmp_path / "several") == ["train", "test"]
    assert read(tmp_path / "several") == READ
    assert read(tmp_path / "several", "test", test="test") == READ[:1]
    with pytest.raises(InputError, match=r"task\.data\.test: 'tset' is no split of .*several'; did you mean 'test'\?"):
        read(tmp_path / "several", "test", test="tset")
    with pytest.raises(InputError, match=r"task\.data\.test: 'test': .*one' is a single data set and has no such part"):
        read(tmp_path / "one", "test", test="test")


@pytest.mark.parametrize("damaged", ["state.json", "dataset_info.json", "data-00000-of-00001.arrow"])
def test_damaged_saved_data_set_is_refused(tmp_path, dataset, damaged) -> None:
    dataset.save_to_disk(tmp_path / "one")
    (tmp_path / "one" / damaged).write_bytes(b"{")
    with pytest.raises(InputError, match=r"one: can't be read \(.*\); save the data set again") as raised:
        read(tmp_path / "one")
    assert "\n" not in str(raised.value)


def test_damaged_list_of_splits_is_refused(tmp_path) -> None:
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"split": []}))
    with pytest.raises(InputError, match=r"dataset_dict\.json: is damaged; save the data set again"):
        read(tmp_path)


def test_parquet_of_pandas(tmp_path) -> None:
    frame = pd.DataFrame({"text": ["a", None], "kind": pd.Categorical(["x", "y"]), "count": [1, 2]})
    frame.to_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == [
        {"text": "a", "kind": "x", "count": 1},
        {"text": None, "kind": "y", "count": 2},
    ]


def test_parquet_with_images_is_read_without_them(tmp_path, monkeypatch) -> None:
    from datasets import Image

    made = Dataset.from_dict(
        {"text": ["a"], "picture": [{"bytes": b"none", "path": None}]},
        features=Features({"text": Value("string"), "picture": Image()}),
    )
    monkeypatch.setattr("datasets.load_dataset", lambda *_arguments, **_settings: made)
    assert read("someone/some-data") == [{"text": "a"}]


def test_class_number_without_a_name_is_refused(tmp_path, dataset) -> None:
    table = dataset.data.table
    broken = table.set_column(1, table.schema.field(1), pa.array([1, 7], table.schema.field(1).type))
    parquet.write_table(broken, tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet: row 2 has no class in column 'label' \(.*7.*\); fix it"):
        read_parquet(tmp_path / "a.parquet")


@pytest.mark.parametrize("text", ["a" * 1000, "a" * 1_000_000])
def test_parquet_that_is_larger_than_memory_is_refused_before_it_is_in_memory(tmp_path, monkeypatch, text) -> None:
    """A column of one value takes a few kilobytes of a file, however many rows it has."""
    values = pa.DictionaryArray.from_arrays(pa.array([0] * 200_000), pa.array([text]))
    parquet.write_table(pa.table({"text": values}), tmp_path / "bomb.parquet", compression="zstd")
    assert (tmp_path / "bomb.parquet").stat().st_size < 100_000
    monkeypatch.setattr(limits, "memory_limit", lambda: 20_000_000)
    monkeypatch.setattr("rank_search.data.tables.memory_limit", lambda: 20_000_000)
    pool, usual = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        with pytest.raises(InputError, match=r"bomb\.parquet: holds more than 0\.0 GB, .*; take fewer rows"):
            read_parquet(tmp_path / "bomb.parquet")
    finally:
        pa.set_memory_pool(usual)
    assert pool.max_memory() < 100_000_000
