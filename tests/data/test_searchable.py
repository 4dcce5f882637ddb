import json

import pytest

from rank_search.config import RetrievalConfig
from rank_search.core.errors import InputError
from rank_search.data.searchable import load_searchable
from tests.data.test_answered import squad_files


def settings(source, columns=None, **data) -> RetrievalConfig:
    return RetrievalConfig(kind="retrieval", data={"source": str(source), **data}, columns=columns or {})


def write_jsonl(path, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_rows_share_one_corpus_and_queries_of_a_document_stay_together(tmp_path) -> None:
    rows = [{"question": f"question {i} {j}", "passage": f"passage {i}"} for i in range(40) for j in range(3)]
    write_jsonl(tmp_path / "rows.jsonl", [*rows, {"question": "question 0 0", "passage": "passage 0 again"}])
    data = load_searchable(settings(tmp_path / "rows.jsonl", {"query": "question", "document": "passage"}))
    assert len(data.test.documents) == 41
    documents = [
        {document for relevant in part.relevant for document in relevant}
        for part in (data.train, data.validation, data.test)
    ]
    assert not documents[0] & documents[1]
    assert not documents[0] & documents[2]
    everything = [
        (query, {part.documents[i] for i in relevant})
        for part in (data.train, data.validation, data.test)
        for query, relevant in zip(part.queries, part.relevant, strict=True)
    ]
    assert len(everything) == 120
    assert dict(everything)["question 0 0"] == {"passage 0", "passage 0 again"}
    assert ("question 7 1", {"passage 7"}) in everything


def test_unknown_built_in() -> None:
    with pytest.raises(InputError, match=r"task\.data\.source: 'builtin:stdlib' is not built in"):
        load_searchable(settings("builtin:stdlib"))


def test_missing_column(tmp_path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [{"question": "q", "context": "c"}])
    with pytest.raises(InputError, match=r"task\.columns\.query: the data has no column 'query'; known: context"):
        load_searchable(settings(tmp_path / "rows.jsonl"))


def test_no_document_answers_queries_of_two_parts_that_were_split_off(tmp_path) -> None:
    """Queries are linked through shared documents: a to A, a to B, b to B."""
    rows = [
        {"query": f"{query} {i}", "document": f"{document} {i}"}
        for i in range(60)
        for query, document in (("a", "A"), ("a", "B"), ("b", "B"))
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    data = load_searchable(settings(tmp_path / "rows.jsonl"))
    parts = [{i for gains in part.relevant for i in gains} for part in (data.train, data.validation, data.test)]
    assert all(parts)
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]


@pytest.mark.parametrize(
    ("name", "values", "shown"),
    [
        ("score", [0.9, 0.02], "0.9"),  # STS
        ("label", [1, 0], "0"),
        ("label", ["entailment", "contradiction"], "'contradiction'"),
        ("labels", [0, 0], "0"),
        ("Similarity", [1.0, 4.5], "4.5"),
        ("is_duplicate", [True, None], "None"),
    ],
)
def test_pairs_that_are_no_right_answers_are_not_trained_as_such(tmp_path, name, values, shown) -> None:
    rows = [{"query": f"q {i}", "document": f"d {i}", name: values[i % 2]} for i in range(40)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    message = rf"rows\.jsonl: row \d has {shown} in column '{name}', which says .*; remove the rows .*, or the column"
    with pytest.raises(InputError, match=message):
        load_searchable(settings(tmp_path / "rows.jsonl"))


@pytest.mark.parametrize("value", [1, 1.0, True, "1", "entailment"])
def test_pairs_that_are_all_right_may_say_so(tmp_path, value) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [{"query": f"q {i}", "document": f"d {i}", "label": value} for i in range(40)])
    assert load_searchable(settings(tmp_path / "rows.jsonl")).notes == ()


def test_negatives_that_are_not_used_are_named(tmp_path) -> None:
    rows = [{"query": f"q {i}", "document": f"d {i}", "negative": f"n {i}", "negotiation": "x"} for i in range(40)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert load_searchable(settings(tmp_path / "rows.jsonl")).notes == (
        "train: column 'negative' is not used: the other documents of a batch are the negatives",
    )


def test_passage_that_does_not_answer_its_question_is_no_right_document(tmp_path) -> None:
    """SQuAD 2.0 from its JSON and from its rows."""
    data = [
        load_searchable(settings(path, {"query": "question", "document": "context"})) for path in squad_files(tmp_path)
    ]
    assert data[0].fingerprint == data[1].fingerprint == data[2].fingerprint
    assert "q 0" not in data[0].train.queries + data[0].validation.queries + data[0].test.queries
    assert data[0].notes == ("train: 10 of 30 questions have no answer in their passage, and are left out",)


def test_queries_of_test_that_are_trained_on_are_counted(tmp_path) -> None:
    write_jsonl(tmp_path / "train.jsonl", [{"query": f"q {i}", "document": f"d {i}"} for i in range(40)])
    rows = [{"query": f"Q {i}", "document": "another"} for i in range(30, 60)]
    write_jsonl(tmp_path / "test.jsonl", rows)
    found = load_searchable(settings(tmp_path, train="train", test="test"))
    counted = [int(note.split()[0]) for note in found.notes if note.startswith(tuple("0123456789"))]
    assert sum(counted) == 10
