"""What an evaluation's time goes by."""

import pytest


@pytest.mark.parametrize("name", ["classification", "generation", "rag"])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_size_is_that_of_what_is_scored(name, split, request) -> None:
    task = request.getfixturevalue(name)
    (found,) = task.evaluate(split)
    assert task.size(split) == len(found.values[found.metric])


def test_documents_count_beside_queries(small_task) -> None:
    (found,) = small_task.evaluate("test")
    assert small_task.size("test") > len(found.values[found.metric])
