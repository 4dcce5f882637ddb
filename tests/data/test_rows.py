import json
import os
import subprocess
import sys

import pandas as pd
import pytest

from rank_search.config import DataConfig
from rank_search.core.errors import InputError
from rank_search.data.files import read_file
from rank_search.data.limits import LONGEST_TEXT
from rank_search.data.rows import class_column, column, read_rows, text_column

ROWS = [{"text": "a, “b”", "label": "x"}, {"text": "c\nd", "label": "y"}]


def data(source, **settings) -> DataConfig:
    return DataConfig(source=str(source), **settings)


def test_parts_of_a_folder(tmp_path) -> None:
    (tmp_path / "train.csv").write_text("text\na\n")
    (tmp_path / "test.csv").write_text("text\n")
    assert read_rows(data(tmp_path, train="train.csv"), "train") == [{"text": "a"}]
    with pytest.raises(
        InputError, match=r"task\.data\.train: 'trian\.csv' is not a file in .*did you mean 'train\.csv'"
    ):
        read_rows(data(tmp_path, train="trian.csv"), "train")
    with pytest.raises(InputError, match=r"task\.data\.test: .*test\.csv has no rows; name another part"):
        read_rows(data(tmp_path, train="train.csv", test="test.csv"), "test")


def test_single_file_has_no_other_part(tmp_path) -> None:
    (tmp_path / "a.csv").write_text("text\na\n")
    with pytest.raises(InputError, match=r"task\.data\.test: 'b\.csv': .* is a single file"):
        read_rows(data(tmp_path / "a.csv", test="b.csv"), "test")


def test_shards_of_a_folder_are_one_part(tmp_path) -> None:
    for i in range(3):
        (tmp_path / f"train-{i:05d}-of-00003.csv").write_text(f"text\n{i}\n")
    assert read_rows(data(tmp_path), "train") == [{"text": "0"}, {"text": "1"}, {"text": "2"}]
    with pytest.raises(InputError, match=r"task\.data\.source: 'train-00000-of-00003\.csv' is one of 3 shards"):
        read_rows(data(tmp_path / "train-00000-of-00003.csv"), "train")


@pytest.mark.parametrize("field", ["config", "revision"])
def test_local_data_has_no_configuration_and_no_revision(tmp_path, field) -> None:
    (tmp_path / "a.csv").write_text("text\na\n")
    with pytest.raises(InputError, match=rf"task\.data\.{field}: 'x': .*a\.csv' is no hub data set and has no {field}"):
        read_rows(data(tmp_path / "a.csv", **{field: "x"}), "train")


def test_list_columns_of_parquet_files(tmp_path) -> None:
    pd.DataFrame({"answers": [["a", "b"], ["c"]]}).to_parquet(tmp_path / "a.parquet")
    assert [list(found) for found in column(read_file(tmp_path / "a.parquet"), "answers", "answers")] == [
        ["a", "b"],
        ["c"],
    ]


def test_half_a_character_is_refused(tmp_path) -> None:
    """JSON may hold lone surrogates, which no tokenizer takes."""
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n{"text": "cut \\ud83d"}\n')
    with pytest.raises(
        InputError,
        match=r"row 2 has half a character \(a lone UTF-16 surrogate\) in column 'text'; fix or remove the row",
    ):
        text_column(read_file(tmp_path / "a.jsonl"), "text", "text")


def test_missing_column_and_empty_cells() -> None:
    with pytest.raises(InputError, match=r"task\.columns\.text: the data has no column 'txt'; did you mean 'text'\?"):
        column(ROWS, "txt", "text")
    for nothing in ("", None, " \n", float("nan")):
        with pytest.raises(InputError, match="row 2 is empty in column 'text'"):
            column([*ROWS[:1], {"text": nothing}], "text", "text")
    with pytest.raises(InputError, match="row 2 is empty in column 'label'"):
        column([ROWS[0], {"text": "c"}], "label", "label")
    with pytest.raises(InputError, match="row 2 and 1 more are empty in column 'text'; fill them, or remove the rows"):
        column([ROWS[0], {"text": ""}, {"text": ""}], "text", "text")
    with pytest.raises(InputError, match=r"the data has no column 'text'; did you mean ' Text'\?"):
        column([{" Text": "a"}], "text", "text")


@pytest.mark.parametrize("wrong", [["a", "b"], {"a": 1}, True, float("inf"), b"bytes"])
def test_what_is_no_text_is_refused(wrong) -> None:
    with pytest.raises(InputError, match=r"row 2 has .* in column 'text', which is not a text; write one text a row"):
        text_column([{"text": "a"}, {"text": wrong}], "text", "text")
    assert text_column([{"text": "a"}, {"text": 7}, {"text": 1.5}], "text", "text") == ["a", "7", "1.5"]


def test_text_that_no_tokenizer_could_hold_is_refused() -> None:
    rows = [{"text": "a" * LONGEST_TEXT}, {"text": "a" * (LONGEST_TEXT + 1)}]
    with pytest.raises(
        InputError, match=r"row 2 has a text of 2,000,001 characters in column 'text', and 2,000,000 is"
    ):
        text_column(rows, "text", "text")


def test_classes_are_texts_whole_numbers_and_truth_values() -> None:
    values = ["a", 3, True, 2.0]
    assert class_column([{"label": value} for value in values], "label", "label") == ["a", "3", "True", "2.0"]
    for wrong in (["a", "b"], {"a": 1}):
        with pytest.raises(InputError, match=r"row 1 has .* in column 'label', which is not a text"):
            class_column([{"label": wrong}], "label", "label")
    with pytest.raises(InputError, match=r"row 1 has 0\.02 in column 'label', and a class is a name or a whole number"):
        class_column([{"label": 0.02}], "label", "label")


@pytest.mark.parametrize("source", ["./absent", "/absent", "absent.jsonl", "absent.jsonl.gz", "~/absent.csv"])
def test_path_that_does_not_exist(source) -> None:
    with pytest.raises(InputError, match=r"task\.data\.source: .* is neither a file nor a folder here"):
        read_rows(data(source), "train")


@pytest.mark.parametrize("source", ["a" * 5000, "a/" * 3000, "~no-such-user/rows.csv"])
def test_what_can_be_no_path_is_refused(tmp_path, source) -> None:
    with pytest.raises(InputError, match=r"task\.data\.source: '.*' can't be a path \(.*\); check it") as raised:
        read_rows(data(source), "train")
    assert len(str(raised.value)) < 250
    with pytest.raises(InputError, match=r"task\.data\.train: '.*' can't be a path \(File name too long\); check it"):
        read_rows(data(tmp_path, train="a" * 5000), "train")


def hub(script: str, **environment) -> str:
    lines = "from rank_search.config import DataConfig\nfrom rank_search.data.rows import read_rows\n" + script
    result = subprocess.run(
        [sys.executable, "-c", lines],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout


def test_hub_data_set_without_a_network_says_what_was_tried(tmp_path) -> None:
    script = (
        "try: read_rows(DataConfig(source='no-one/nothing'), 'train')\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    message = hub(script, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert message.startswith(
        "InputError task.data.source: 'no-one/nothing' is not a file or folder here, and it can't be loaded as a hub"
    )
    assert message.endswith("without a network, name a file or a folder\n")
    assert len(message.splitlines()) == 1


def test_hub_data_set_comes_from_the_hubs_own_cache_with_class_names(tmp_path) -> None:
    """The ``datasets`` library, offline, on the cache that a download would leave."""
    script = """
import datasets, json
from datasets import ClassLabel, Dataset, Features, Value
features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
made = Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
def load_dataset(path, name, split, revision):
    assert (path, name, split, revision) == ("someone/some-data", "small", "train", "main")
    return made
datasets.load_dataset = load_dataset
data = DataConfig(source="someone/some-data", config="small", revision="main")
print(json.dumps(read_rows(data, "train")))
"""
    assert json.loads(hub(script, HF_HOME=str(tmp_path))) == [
        {"text": "a", "label": "yes"},
        {"text": "b", "label": "no"},
    ]


def test_hub_data_set_of_a_script_is_refused_and_unknown_classes_are_empty(tmp_path) -> None:
    script = """
import datasets
from datasets import ClassLabel, Dataset, Features, Value
features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
def scripted(*arguments, **settings): raise RuntimeError("Dataset scripts are no longer supported")
datasets.load_dataset = datasets.get_dataset_split_names = scripted
try: read_rows(DataConfig(source='someone/scripted'), 'train')
except Exception as error: print(type(error).__name__, error)
from rank_search.data.tables import hub_splits
print(hub_splits('someone/scripted'))
datasets.load_dataset = lambda *a, **k: Dataset.from_dict({"text": ["a"], "label": [-1]}, features=features)
print(read_rows(DataConfig(source='someone/unknown'), 'train'))
"""
    refused, splits, rows = hub(script, HF_HOME=str(tmp_path)).splitlines()
    assert refused.startswith("InputError task.data.source: 'someone/scripted' is not a file")
    assert splits == "['train']"
    assert rows == "[{'text': 'a', 'label': None}]"
