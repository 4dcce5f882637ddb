import json
import os
import subprocess
import sys

import pandas as pd
import pytest

from rank_search.config import DataConfig
from rank_search.core.errors import InputError
from rank_search.data.rows import column, read_file, read_rows

ROWS = [{"text": "a, “b”", "label": "x"}, {"text": "c\nd", "label": "y"}]


def data(source, **settings) -> DataConfig:
    return DataConfig(source=str(source), **settings)


def test_every_format_gives_the_same_rows(tmp_path) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    pd.DataFrame(ROWS).to_csv(tmp_path / "rows.csv", index=False)
    pd.DataFrame(ROWS).to_csv(tmp_path / "rows.tsv", index=False, sep="\t")
    pd.DataFrame(ROWS).to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "rows.csv").read_bytes())
    for path in tmp_path.iterdir():
        assert read_file(path) == ROWS, path.name


def test_squad_format(tmp_path) -> None:
    paragraph = {
        "context": "Denver won.",
        "qas": [
            {"id": "1", "question": "Who won?", "answers": [{"text": "Denver", "answer_start": 0}]},
            {"id": "2", "question": "Who lost?", "answers": [], "is_impossible": True},
        ],
    }
    (tmp_path / "s.json").write_text(json.dumps({"data": [{"title": "Game", "paragraphs": [paragraph]}]}))
    assert read_file(tmp_path / "s.json") == [
        {"title": "Game", "context": "Denver won.", "question": "Who won?", "answers": ["Denver"]}
    ]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', r"a\.jsonl: line 2 is not JSON \(.*\); fix the line"),
        ("a.jsonl", b'{"text": "a"}\n[1]\n', r"a\.jsonl: line 2 is not a JSON object"),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": "\xe9"}\n', r"a\.jsonl: line 3 is not UTF-8"),
        ("a.csv", b"text,label\na,b\n\xe9,b\n", r"a\.csv: line 3 is not UTF-8"),
        ("a.csv", b"text,label\n" + 3000 * b"a word or two,b\n" + b"\xe9,b\n", r"a\.csv: line 3002 is not UTF-8"),
        ("a.csv", b"text,label\na,b\nc\n", r"a\.csv: line 3 does not have the 2 columns of the first line"),
        ("a.csv", b"text,label\na,b\nc,d,e\n", r"a\.csv: line 3 does not have the 2 columns"),
        ("a.csv", b'text,label\na,"b"c\n', r"a\.csv: is not a valid CSV file"),
        ("a.csv", b"text,label,text\na,b,c\n", r"a\.csv: has two columns named 'text'; rename or remove one"),
        ("a.jsonl", b"[" * 100_000, r"a\.jsonl: line 1 is not JSON"),
        ("a.json", b"[" * 100_000, r"a\.json: is JSON that is nested too deeply"),
        ("a.json", b'{"data": [\n{]}', r"a\.json: line 2 is not JSON"),
        ("a.json", b'{"rows": []}', r"a\.json: is neither in SQuAD's format .* nor a list of objects"),
        ("a.parquet", b"PAR", r"a\.parquet: is not a Parquet file"),
        ("a.txt", b"text", r"task\.data: 'a\.txt' has an unknown format; use one of \.jsonl"),
    ],
)
def test_error_about_a_broken_file_names_file_and_line(tmp_path, name, content, expected) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=expected) as raised:
        read_file(tmp_path / name)
    assert "\n" not in str(raised.value)


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
        column(read_file(tmp_path / "a.jsonl"), "text", "text")


def test_missing_column_and_empty_cells() -> None:
    with pytest.raises(InputError, match=r"task\.columns\.text: the data has no column 'txt'; did you mean 'text'\?"):
        column(ROWS, "txt", "text")
    for nothing in ("", None):
        with pytest.raises(InputError, match="row 2 is empty in column 'text'"):
            column([*ROWS[:1], {"text": nothing}], "text", "text")
    with pytest.raises(InputError, match="row 2 is empty in column 'label'"):
        column([ROWS[0], {"text": "c"}], "label", "label")


@pytest.mark.parametrize("source", ["./absent", "/absent", "absent.jsonl", "~/absent.csv"])
def test_path_that_does_not_exist(source) -> None:
    with pytest.raises(InputError, match=r"task\.data\.source: .* is neither a file nor a folder here"):
        read_rows(data(source), "train")


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
from rank_search.data.rows import hub_splits
print(hub_splits('someone/scripted'))
datasets.load_dataset = lambda *a, **k: Dataset.from_dict({"text": ["a"], "label": [-1]}, features=features)
print(read_rows(DataConfig(source='someone/unknown'), 'train'))
"""
    refused, splits, rows = hub(script, HF_HOME=str(tmp_path)).splitlines()
    assert refused.startswith("InputError task.data.source: 'someone/scripted' is not a file")
    assert splits == "['train']"
    assert rows == "[{'text': 'a', 'label': None}]"
