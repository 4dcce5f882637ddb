import pytest

from rank_search.data.squad import is_unanswerable, squad_rows


@pytest.mark.parametrize(
    "content", [{}, [], [1], "data", {"data": 3}, {"data": [{"paragraphs": [{"qas": [{}]}]}]}, None]
)
def test_what_is_no_squad_file_has_no_rows(content) -> None:
    assert squad_rows(content) is None


def test_only_an_empty_list_says_that_there_is_no_answer() -> None:
    assert [is_unanswerable(answers) for answers in ([], {"text": []}, {"text": (), "answer_start": ()})] == [True] * 3
    assert not any(is_unanswerable(answers) for answers in (None, "", ["a"], {"text": ["a"]}, {}, {"text": None}))
