import gzip
import json

import pytest

from rank_search.config import RetrievalConfig
from rank_search.core.errors import InputError
from rank_search.data.searchable import load_searchable


def settings(source, columns=None, **data) -> RetrievalConfig:
    return RetrievalConfig(kind="retrieval", data={"source": str(source), **data}, columns=columns or {})


def write_jsonl(path, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def beir(tmp_path):
    """40 queries on 50 documents; query q3 has two right ones, of gains 2 and 1."""
    write_jsonl(tmp_path / "corpus.jsonl", [{"_id": f"d{i}", "title": f"T{i}", "text": f"text {i}"} for i in range(50)])
    write_jsonl(tmp_path / "queries.jsonl", [{"_id": f"q{i}", "text": f"query {i}"} for i in range(40)])
    (tmp_path / "qrels").mkdir()
    head = "query-id\tcorpus-id\tscore\n"
    train = "".join(f"q{i}\td{i}\t1\n" for i in range(4, 40))
    (tmp_path / "qrels" / "train.tsv").write_text(head + train + "q5\td6\t0\n")
    (tmp_path / "qrels" / "test.tsv").write_text(head + "q3\td3\t2\nq3\td4\t1\n")
    return tmp_path


def test_beir_folder(beir) -> None:
    data = load_searchable(settings(beir, test="test"))
    assert len(data.test.documents) == 50
    assert data.test.documents is data.train.documents
    assert data.test.queries == ("query 3",)
    assert data.test.relevant == ({3: 2, 4: 1},)
    assert data.test.documents[3] == "T3 text 3"
    assert len(data.train.queries) + len(data.validation.queries) == 36
    for part in (data.train, data.validation):
        for query, relevant in zip(part.queries, part.relevant, strict=True):
            assert [data.test.documents[i].split()[-1] for i in relevant] == [query.split()[-1]]


@pytest.mark.parametrize(
    ("file", "line", "expected"),
    [
        ("train", "q1\td99\t1\n", r"train\.tsv: line 39 names 'd99', which is in neither"),
        ("train", "q99\td1\t1\n", r"train\.tsv: line 39 names 'q99'"),
        ("train", "q1\td1\thigh\n", r"train\.tsv: line 39 is not a judgement"),
        ("train", "q5\td6\t1\n", r"train\.tsv: line 39 judges 'q5' and 'd6' again; remove one line"),
    ],
)
def test_wrong_judgements(beir, file, line, expected) -> None:
    path = beir / "qrels" / f"{file}.tsv"
    path.write_text(path.read_text() + line)
    with pytest.raises(InputError, match=expected):
        load_searchable(settings(beir))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"_id": "d7", "text": "another"}, "object 51 repeats the _id 'd7'; remove one of them"),
        ({"_id": "d50", "text": None}, "object 51 lacks _id, or its title or text is not text; fix it"),
        ({"_id": "d50", "text": ["a", "list"]}, "object 51 lacks _id, or its title or text is not text; fix it"),
        ({"_id": "d50", "title": 3, "text": "fine"}, "object 51 lacks _id, or its title or text is not text; fix it"),
        ({"_id": "d50", "text": "cut \ud83d"}, "object 51 lacks _id, or its title or text is not text; fix it"),
        ({"_id": {"number": 50}, "text": "fine"}, "object 51 lacks _id, or its title or text is not text; fix it"),
        ({"text": "nameless"}, "object 51 lacks _id, or its title or text is not text; fix it"),
    ],
)
def test_wrong_documents(beir, row, expected) -> None:
    path = beir / "corpus.jsonl"
    path.write_text(path.read_text() + json.dumps(row) + "\n")
    with pytest.raises(InputError, match=rf"corpus\.jsonl: {expected}"):
        load_searchable(settings(beir))


def test_beir_part_that_is_missing(beir) -> None:
    with pytest.raises(InputError, match=r"task\.data\.train: .*qrels/trian\.tsv' is missing; did you mean 'train'"):
        load_searchable(settings(beir, train="trian"))
    (beir / "queries.jsonl").unlink()
    with pytest.raises(InputError, match=r"queries\.jsonl: is missing; a BEIR folder needs"):
        load_searchable(settings(beir))


def test_beir_part_that_is_train_already_is_refused(beir) -> None:
    with pytest.raises(InputError, match=r"task\.data\.test: 'train' is used as train already"):
        load_searchable(settings(beir, test="train"))


def test_compressed_corpus_is_read(beir) -> None:
    plain = load_searchable(settings(beir, test="test"))
    for name in ("corpus", "queries"):
        (beir / f"{name}.jsonl.gz").write_bytes(gzip.compress((beir / f"{name}.jsonl").read_bytes()))
        (beir / f"{name}.jsonl").unlink()
    assert load_searchable(settings(beir, test="test")) == plain


def test_documents_without_a_text_are_counted_and_can_not_be_right(beir) -> None:
    path = beir / "corpus.jsonl"
    path.write_text(path.read_text() + json.dumps({"_id": "d50", "title": "", "text": " "}) + "\n")
    note = "1 of 51 documents of the corpus have no text, and are left out"
    assert load_searchable(settings(beir, test="test")).notes == (note,)
    with (beir / "qrels" / "test.tsv").open("a") as file:
        file.write("q3\td50\t1\n")
    with pytest.raises(InputError, match=r"names 'd50', which is in neither .*, or has no text there; fix it"):
        load_searchable(settings(beir, test="test"))


def test_judgements_without_a_right_document_are_refused(beir) -> None:
    (beir / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t0\n")
    with pytest.raises(InputError, match=r"task\.data: .* is empty: the data has 0 training rows"):
        load_searchable(settings(beir, test="test"))
