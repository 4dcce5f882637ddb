"""``init``: what it makes of models and data; that its files run is in test_tasks_end_to_end.py."""

import json

import pytest
import yaml
from datasets import Dataset, DatasetDict

from rank_search.app.init import draft
from rank_search.config import StudyConfig
from rank_search.config.template import template
from rank_search.core.errors import InputError
from tests.bench import EMBEDDED
from tests.conftest import ROOT


def rows(path, *columns, count: int = 40) -> str:
    path.write_text("".join(json.dumps({name: f"{name} {i}" for name in columns}) + "\n" for i in range(count)))
    return str(path)


def drafted(model, data, **options) -> StudyConfig:
    return StudyConfig.model_validate(yaml.safe_load(draft(model, data, **options).text))


def test_columns_decide_what_an_encoder_is_for(tmp_path) -> None:
    classes = drafted(EMBEDDED, rows(tmp_path / "a.jsonl", "id", "utterance", "intent"))
    assert classes.task.kind == "classification"
    assert (classes.task.columns.text, classes.task.columns.label) == ("utterance", "intent")
    search = drafted(EMBEDDED, rows(tmp_path / "b.jsonl", "question", "context", "title"))
    assert search.task.kind == "retrieval"
    assert (search.task.columns.query, search.task.columns.document) == ("question", "context")
    assert search.study == "b-retrieval"
    chosen = drafted(EMBEDDED, rows(tmp_path / "c.jsonl", "query", "text", "topic"), kind="retrieval")
    assert (chosen.task.columns.query, chosen.task.columns.document) == ("query", "text")
    message = (
        r"^--data: the columns x, y do not look like those of a classification or retrieval task; rename them "
        r"\(classification reads text \(or .*\) and label \(or .*\); retrieval reads query \(or .*\) and document "
    )
    with pytest.raises(InputError, match=message):
        draft(EMBEDDED, rows(tmp_path / "d.jsonl", "x", "y"))


def test_lengths_and_batches_follow_the_data(tmp_path) -> None:
    long = tmp_path / "long.jsonl"
    long.write_text("".join(json.dumps({"query": "why", "text": "word " * 100}) + "\n" for _ in range(12)))
    config = drafted(EMBEDDED, str(long))
    assert (config.task.query_length, config.task.document_length) == (16, 112)
    assert config.training.batch_size == 3
    longer = tmp_path / "longer.jsonl"
    longer.write_text("".join(json.dumps({"query": "why", "text": "word " * 5000}) + "\n" for _ in range(12)))
    assert drafted(EMBEDDED, str(longer)).task.document_length <= 512


def test_parts_are_found_by_their_names(tmp_path) -> None:
    for name in ("data_train.csv", "data_dev.csv", "data_test.csv", "notes.txt"):
        (tmp_path / name).write_text("text,label\n" + "a,b\n" * 20)
    data = drafted(EMBEDDED, str(tmp_path)).task.data
    assert (data.train, data.validation, data.test) == ("data_train.csv", "data_dev.csv", "data_test.csv")
    (tmp_path / "data_train.csv").unlink()
    (tmp_path / "data_dev.csv").rename(tmp_path / "other.csv")
    with pytest.raises(
        InputError, match=r"^--data: .* has no part with the word 'train' in the name \(data_test\.csv, oth"
    ):
        draft(EMBEDDED, str(tmp_path))


def test_splits_of_a_hub_data_set(monkeypatch) -> None:
    monkeypatch.setattr("rank_search.app.likely_parts.hub_splits", lambda source: ["test", "train", "validation"])
    rows_of = [{"text": f"text {i}", "label": "a"} for i in range(9)]
    monkeypatch.setattr("rank_search.app.init.read_rows", lambda data, part: rows_of)
    data = drafted(EMBEDDED, "someone/some-data").task.data
    assert (data.source, data.train, data.validation, data.test) == ("someone/some-data", "train", "validation", "test")


def test_what_is_not_used_and_what_is_guessed_stands_in_the_file(tmp_path) -> None:
    for name in ("train.csv", "train_small.csv", "dev.csv"):
        (tmp_path / name).write_text("id,text,label\n" + "1,a,b\n" * 20)
    lines = draft(EMBEDDED, str(tmp_path)).text.splitlines()
    assert lines[1:3] == ["# Parts that are not used: train_small.csv.", "# Columns that are not used: id."]
    (tmp_path / "train.csv").unlink()
    (tmp_path / "train_small.csv").unlink()
    (tmp_path / "test.csv").write_text("text,label\n" + "a,b\n" * 20)
    text = draft(EMBEDDED, str(tmp_path)).text
    assert "# No part is called train, so dev.csv is trained on, and validation is split off it.\n" in text


def test_columns_are_found_whatever_their_case(tmp_path) -> None:
    (tmp_path / "a.csv").write_text("Text; Label\n" + "a;b\n" * 20)
    columns = drafted(EMBEDDED, str(tmp_path / "a.csv")).task.columns
    assert (columns.text, columns.label) == ("Text", " Label")


def test_judged_pairs_are_no_classification_and_not_all_right(tmp_path) -> None:
    """Of ``query, document, label`` the query was to be classified by the label."""
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("query,document,label\n" + "a,b,1\n" * 20)
    assert drafted(EMBEDDED, str(pairs)).task.kind == "retrieval"
    pairs.write_text("query,document,label\n" + "a,b,1\n" * 20 + "a,c,0\n")
    with pytest.raises(
        InputError, match=r"pairs\.csv: row 21 has '0' in column 'label', which says that it is no right"
    ):
        draft(EMBEDDED, str(pairs))


def test_instruction_data_without_passages_is_refused_with_what_to_do(tmp_path) -> None:
    alpaca = tmp_path / "alpaca.jsonl"
    alpaca.write_text(
        "".join(json.dumps({"instruction": "do", "input": "", "output": "done"}) + "\n" for _ in range(9))
    )
    with pytest.raises(InputError, match=r"alpaca\.jsonl: 9 of 9 rows have no passage in column 'input', .*; remove"):
        draft(EMBEDDED, str(alpaca), kind="generation")


def test_shards_and_saved_data_sets_are_drafted(tmp_path) -> None:
    made = Dataset.from_dict({"text": [f"t {i}" for i in range(9)], "label": ["a"] * 9})
    (tmp_path / "hub" / "data").mkdir(parents=True)
    for i in range(2):
        made.to_parquet(tmp_path / "hub" / "data" / f"train-{i:05d}-of-00002.parquet")
    text = draft(EMBEDDED, str(tmp_path / "hub")).text
    assert text.startswith("# 18 rows to train on.")
    assert yaml.safe_load(text)["task"]["data"]["train"] == "train"
    DatasetDict({"train": made, "test": made}).save_to_disk(tmp_path / "saved")
    data = drafted(EMBEDDED, str(tmp_path / "saved")).task.data
    assert (data.train, data.validation, data.test) == ("train", None, "test")
    made.save_to_disk(tmp_path / "single")
    assert drafted(EMBEDDED, str(tmp_path / "single")).task.data.train == "train"


def test_beir_folder_is_retrieval(tmp_path) -> None:
    (tmp_path / "qrels").mkdir()
    for name in ("train", "test"):
        (tmp_path / "qrels" / f"{name}.tsv").write_text("query-id\tcorpus-id\tscore\n")
    (tmp_path / "corpus.jsonl").write_text("")
    config = drafted(EMBEDDED, str(tmp_path))
    assert config.task.kind == "retrieval"
    assert (config.task.data.train, config.task.data.validation, config.task.data.test) == ("train", None, "test")


def test_only_qrels_are_trained_on_and_the_rest_is_split_off(tmp_path) -> None:
    """Many BEIR sets have a test part alone."""
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n")
    (tmp_path / "corpus.jsonl").write_text("")
    data = drafted(EMBEDDED, str(tmp_path)).task.data
    assert (data.train, data.validation, data.test) == ("test", None, None)


def test_beir_folder_with_dev_and_test_is_trained_on_dev(tmp_path) -> None:
    (tmp_path / "qrels").mkdir()
    for name in ("dev", "test"):
        (tmp_path / "qrels" / f"{name}.tsv").write_text("query-id\tcorpus-id\tscore\n")
    (tmp_path / "corpus.jsonl").write_text("")
    data = drafted(EMBEDDED, str(tmp_path)).task.data
    assert (data.train, data.validation, data.test) == ("dev", None, "test")


def test_beir_folder_is_refused_another_task(tmp_path, monkeypatch) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n")
    (tmp_path / "corpus.jsonl").write_text("")
    with pytest.raises(InputError, match=r"--kind: 'generation': .* is a BEIR folder, which is for retrieval"):
        draft(EMBEDDED, str(tmp_path), kind="generation")
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    assert drafted(EMBEDDED, f"~/{tmp_path.name}").task.kind == "retrieval"


def test_long_file_name_gives_a_name_that_studies_may_have(tmp_path) -> None:
    assert drafted(EMBEDDED, rows(tmp_path / f"{'a' * 200}.jsonl", "text", "label")).study.endswith("a-classification")


def test_errors_name_the_option_or_the_file(tmp_path) -> None:
    good = rows(tmp_path / "good.jsonl", "question", "answers", "context")
    with pytest.raises(InputError, match=r"^--model: './absent' is neither a folder here nor a hub id"):
        draft("./absent", good)
    with pytest.raises(InputError, match=r"^--retriever: './absent' is neither a folder here nor a hub id"):
        draft(EMBEDDED, good, retriever="./absent")
    part = tmp_path / "part.jsonl"
    part.write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n{"label": "x"}\n')
    with pytest.raises(InputError, match=r"part\.jsonl: row 3 is empty in column 'text'; fill it, or remove the row"):
        draft(EMBEDDED, str(part))
    (tmp_path / "broken.jsonl").write_text("{]\n")
    with pytest.raises(InputError, match=r"^[^:]*broken\.jsonl: line 1 is not JSON"):
        draft(EMBEDDED, str(tmp_path / "broken.jsonl"))


def test_template_is_the_shipped_one_and_holds_every_field() -> None:
    assert (ROOT / "configs" / "template.yaml").read_text() == template()
    whole = yaml.safe_load(template())
    assert StudyConfig.model_validate(whole).model_dump(mode="json") == whole


def test_other_tasks_of_the_template_are_study_files_too() -> None:
    """Each block behind comment signs, put in the place of the task."""
    lines = template().splitlines()
    starts = [i for i, line in enumerate(lines) if line == "#   task:"]
    assert len(starts) == 3
    kinds = set()
    for start in starts:
        block = []
        for line in lines[start:]:
            if not line.startswith("#   "):
                break
            block.append(line.removeprefix("#   "))
        settings = {**yaml.safe_load(template()), **yaml.safe_load("\n".join(block))}
        kinds.add(StudyConfig.model_validate(settings).task.kind)
    assert kinds == {"classification", "generation", "rag"}
