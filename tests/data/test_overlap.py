import pytest

from rank_search.core.errors import InputError
from rank_search.data.overlap import Overlap, check_overlaps, overlaps


def test_every_pair_of_parts_is_compared_but_for_case_and_white_space() -> None:
    texts = {"train": ["a", "b b", "c"], "validation": ["A ", "x", "y"], "test": ["B\n b", "X", "z", "z"]}
    assert overlaps(texts) == [
        Overlap("validation", "train", 1, 3),
        Overlap("test", "train", 1, 4),
        Overlap("test", "validation", 1, 4),
    ]
    check_overlaps(texts)
    assert str(Overlap("test", "train", 1200, 3000)) == "1,200 of 3,000 texts of test are in train too"


def test_parts_of_which_most_is_the_same_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"task\.data\.test: 2 of 3 texts of test are in validation too, and parts must"
    ):
        check_overlaps({"train": ["t"], "validation": ["a", "b"], "test": ["a", "b", "c"]})
    check_overlaps({"train": ["t"], "validation": [], "test": []})
