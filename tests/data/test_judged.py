import pytest

from rank_search.core.errors import InputError
from rank_search.data.judged import check_all_right, judgements


def test_columns_that_judge_are_known_by_their_names() -> None:
    assert judgements(["query", " Label", "SCORE", "scoreboard", "id"]) == [" Label", "SCORE"]


def test_column_that_the_task_reads_is_no_judgement() -> None:
    rows = [{"query": "a", "label": "b"}]
    check_all_right(rows, {"query", "label"})
    with pytest.raises(InputError, match=r"row 1 has 'b' in column 'label', which says that it is no right answer"):
        check_all_right(rows, {"query"})
