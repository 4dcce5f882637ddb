"""What a study says of itself."""

from dataclasses import replace

from rank_search.analysis.remarks import remarks
from rank_search.core.rates import LearningRates
from rank_search.core.rivals import SEARCH
from tests.analysis.conftest import UNIFORM, evidence, table


def said(untrained, best, values, rates=None):
    found = evidence(table((untrained, 0), (best, 10), (untrained, 5), kinds=[UNIFORM, UNIFORM, SEARCH]))
    return remarks(replace(found, searched=replace(found.searched, values=lambda _trial: values)), rates)


def test_too_few_wrong_examples_are_said() -> None:
    (sentence,) = said(0.5, 0.99, [1.0] * 395 + [0.0] * 5)
    assert sentence.startswith("The score is saturated: of 400 validation examples uniform rank 1 gets 5.0 wrong")


def test_enough_wrong_examples_or_a_score_without_a_highest_value_are_no_reason_to_say_so() -> None:
    assert said(0.5, 0.95, [1.0] * 380 + [0.0] * 20) == []
    assert said(-2.0, -1.0, [-1.0] * 9) == []
    assert said(0.5, 0.9, []) == []


def test_fine_tuning_that_gains_nothing_is_said() -> None:
    assert said(0.7, 0.7, [0.7] * 400)[0].startswith("Fine-tuning gains nothing here")


def test_whether_rank_matters_comes_first_and_the_recipe_last() -> None:
    found = evidence(table((0.5, 0), (0.6, 10), (0.7, 20), (0.55, 5), kinds=[*[UNIFORM] * 3, SEARCH]))
    first, last = remarks(found, LearningRates(((10, 0.1),), notes=("Its rate is 0.1.",)))
    assert first.startswith("Rank matters")
    assert last == "Its rate is 0.1."


def test_a_study_without_a_searched_map_says_so() -> None:
    found = evidence(table((0.5, 0), (0.9, 10), kinds=[UNIFORM] * 2))
    assert any("raise search.trials" in sentence for sentence in remarks(found, None))
    assert remarks(evidence(table()), None) == []
