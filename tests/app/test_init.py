"""``init``: what it makes of models and data; that its files run is in test_tasks_end_to_end.py."""

import json

import pytest
import yaml

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
    told = drafted(EMBEDDED, rows(tmp_path / "c.jsonl", "query", "text", "label"), kind="retrieval")
    assert (told.task.columns.query, told.task.columns.document) == ("query", "text")
    with pytest.raises(
        InputError, match=r"--data: the columns x, y do not look like those of a classification or retrieval"
    ):
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
    with pytest.raises(InputError, match="has no file with 'train' in its name"):
        draft(EMBEDDED, str(tmp_path))


def test_splits_of_a_hub_data_set(monkeypatch) -> None:
    monkeypatch.setattr("rank_search.app.init.hub_splits", lambda source: ["test", "train", "validation"])
    rows_of = [{"text": f"text {i}", "label": "a"} for i in range(9)]
    monkeypatch.setattr("rank_search.app.init.read_rows", lambda data, part: rows_of)
    data = drafted(EMBEDDED, "someone/some-data").task.data
    assert (data.source, data.train, data.validation, data.test) == ("someone/some-data", "train", "validation", "test")


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
