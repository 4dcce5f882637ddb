"""Which differences a study can show."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rank_search.analysis.looks import level
from rank_search.analysis.power import ASSUMED, Spread, measured_spread, power, sentences
from tests.analysis.conftest import TRIALS, evidence, table

SPREAD = Spread(0.003**2, 0.1**2, 0.05**2, pairs=5)


@given(st.integers(1, 20), st.integers(10, 5000))
def test_more_examples_and_seeds_never_show_less(seeds, examples) -> None:
    width = SPREAD.half_width(seeds, examples, 0.95)
    assert SPREAD.half_width(seeds + 1, examples, 0.95) < width
    assert SPREAD.half_width(seeds, examples + 1, 0.95) < width


def test_half_width_is_that_of_the_intervals_that_come_out() -> None:
    """The spread of one half of a study's examples promises the width on the other half."""
    found = evidence(TRIALS, noise=0.2)
    spread = measured_spread(found)
    came_out = found.selected.difference(5, 3)
    low, high = came_out.interval()
    assert spread.half_width(1, came_out.examples, 0.95) == pytest.approx((high - low) / 2, rel=0.3)
    assert spread.pairs == 4  # the front and the ladder, without the best map and rank 0


def test_nothing_is_measured_without_maps() -> None:
    assert measured_spread(evidence(table((0.5, 1), states=["FAIL"]))) is None
    assert measured_spread(evidence(table((0.5, 10)))) is None


def test_examples_that_a_margin_needs_do_suffice() -> None:
    found = power(400, 500, 10, 0.008, SPREAD)
    assert SPREAD.half_width(3, found.test_needed, level(3)) <= 0.008 < SPREAD.half_width(3, 500, level(3))
    assert power(400, 500, 10, 0.0001, SPREAD).test_needed is None  # the seeds alone spread by more
    assert power(400, 500, 10, None).test_needed is None


def test_sentences_say_what_can_be_shown_and_what_the_margin_takes() -> None:
    first, choice, margin = sentences(power(400, 500, 10, 0.008, SPREAD), "accuracy")
    assert first.startswith("500 test examples can show differences in accuracy of ±0.0")
    assert "with 3 seeds" in first
    assert "(as 5 pairs of its maps spread)" in first
    assert choice.startswith("the choice, on 400 examples, can show that a map loses no more than 0.0")
    assert margin.startswith("a margin of 0.0080 takes about 1,")
    assert margin.endswith("test examples with 3 seeds; there are 500, which are too few")
    assert sentences(power(400, 9000, 10, 0.008, SPREAD), "accuracy")[-1].endswith("there are 9,000, which suffice")


def test_without_a_verdict_or_a_margin_less_is_said() -> None:
    assert len(sentences(power(400, 500, 0, 0.008), "accuracy")) == 1
    assert "as those of other studies" in sentences(power(400, 500, 3, None, ASSUMED), "accuracy")[0]
