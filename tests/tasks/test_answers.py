"""SQuAD v1.1's exact match and token-F1 on cases made by hand; each was checked against the official script too."""

import pytest

from rank_search.tasks.answers import exact_match, normalised, token_f1

CASES = [
    # answer, gold answers, exact match, F1
    ("Denver Broncos", ["Denver Broncos"], 1, 1),
    ("denver broncos", ["Denver Broncos"], 1, 1),
    ("DENVER BRONCOS", ["Denver Broncos"], 1, 1),
    ("Broncos", ["Denver Broncos"], 0, 2 / 3),
    ("the Denver Broncos", ["Denver Broncos"], 1, 1),
    ("The Denver Broncos", ["Denver Broncos"], 1, 1),
    ("a Denver Broncos", ["An Denver Broncos"], 1, 1),
    ("Denver the Broncos", ["Denver Broncos"], 1, 1),
    ("Denver Broncos the", ["Denver Broncos"], 1, 1),
    ("another", ["other"], 0, 0),
    ("theater", ["ater"], 0, 0),
    ("Anna", ["nna"], 0, 0),
    ("a", ["the"], 1, 0),
    ("the", [""], 1, 0),
    ("", ["the"], 1, 0),
    ("", [""], 1, 0),
    ("", ["Denver"], 0, 0),
    ("Denver", [""], 0, 0),
    ("   ", ["Denver"], 0, 0),
    ("!!!", [""], 1, 0),
    ("...", ["?!"], 1, 0),
    ("Denver.", ["Denver"], 1, 1),
    ("(Denver)", ["Denver"], 1, 1),
    ('"Denver"', ["'Denver'"], 1, 1),
    ("Denver, Colorado", ["Denver Colorado"], 1, 1),
    ("Denver,Colorado", ["Denver Colorado"], 0, 0),
    ("U.S.", ["US"], 1, 1),
    ("U. S.", ["US"], 0, 0),
    ("1,500", ["1500"], 1, 1),
    ("3.14", ["314"], 1, 1),
    ("$5", ["5"], 1, 1),
    ("50%", ["50 %"], 1, 1),
    ("well-known", ["well known"], 0, 0),
    ("well-known", ["wellknown"], 1, 1),
    ("it's", ["its"], 1, 1),
    ("A.", ["B"], 0, 0),
    ("“Denver”", ["Denver"], 0, 0),  # only ASCII punctuation goes
    ("Denver–Broncos", ["DenverBroncos"], 0, 0),
    ("café", ["cafe"], 0, 0),
    ("  Denver   Broncos \n", ["Denver Broncos"], 1, 1),
    ("Denver\tBroncos", ["Denver Broncos"], 1, 1),
    ("Broncos Denver", ["Denver Broncos"], 0, 1),
    ("the the the", ["Denver"], 0, 0),
    ("Denver Denver", ["Denver"], 0, 2 / 3),
    ("Denver Denver", ["Denver Denver Denver"], 0, 4 / 5),
    ("one two three four", ["three four five six"], 0, 1 / 2),
    ("in 1066", ["1066", "the year 1066"], 0, 2 / 3),
    ("the year 1066", ["1066", "year 1066"], 1, 1),
    ("February 7, 2016", ["February 7", "7 February 2016", "2016"], 0, 1),
    ("nothing alike", ["Denver", "Broncos", "the"], 0, 0),
    ("Colorado", ["", "Colorado"], 1, 1),
    ("a an the Denver", ["denver!"], 1, 1),
]


@pytest.mark.parametrize(("answer", "golds", "exact", "f1"), CASES)
def test_edge_cases(answer, golds, exact, f1) -> None:
    assert exact_match(answer, golds) == exact
    assert token_f1(answer, golds) == pytest.approx(f1)


def test_there_are_fifty_cases_and_none_twice() -> None:
    assert len({(answer, *golds) for answer, golds, _, _ in CASES}) == len(CASES) >= 50


def test_articles_are_whole_words() -> None:
    assert normalised("The An a theatre, Anne & A.") == "theatre anne"
