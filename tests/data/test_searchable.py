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
