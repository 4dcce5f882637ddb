"""What a search added to what costs no search."""

import pytest

from rank_search.analysis.search_gain import search_gain
from rank_search.core.choice import Rule
from tests.analysis.conftest import UNIFORM, evidence, table

LADDER = ((0.5, 0), (0.7, 20), (0.72, 40))


def gain_of(*searched, rule="as-good-as-best", kinds=None):
    kinds = [*[UNIFORM] * len(LADDER), *(kinds or ["search"] * len(searched))]
    return search_gain(evidence(table(*LADDER, *searched, kinds=kinds), "0.001"), Rule.parse(rule), 50)


def test_a_smaller_map_that_is_as_good_is_what_the_search_added() -> None:
    gain = gain_of((0.72, 10))
    assert (gain.rivals_choice.number, gain.choice.number) == (2, 3)
    assert gain.rivals_hypervolume == pytest.approx(0.2 * 20 + 0.22 * 10)
    assert gain.hypervolume == pytest.approx(0.22 * 40)
    assert gain.sentence.startswith("The search added 41.9% to the hypervolume of what costs no search; ")
    assert gain.sentence.endswith("without it the choice would have 40 parameters.")


def test_maps_that_are_not_chosen_add_nothing_to_the_choice() -> None:
    assert gain_of((0.6, 10)).sentence.endswith("and nothing to the choice.")


def test_a_better_map_may_be_larger_than_the_choice_without_it() -> None:
    assert "for want of a map that scores as high" in gain_of((0.9, 45)).sentence


def test_a_study_that_proposed_nothing_has_no_gain() -> None:
    assert gain_of((0.72, 10), kinds=["baseline:family"]) is None
