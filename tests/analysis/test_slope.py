"""Whether rank matters."""

from dataclasses import replace

import pytest

from rank_search.analysis.slope import search_budget, slope
from tests.analysis.conftest import UNIFORM, evidence, table
from tests.bench import SPACE


def ladder(*scores, margin="0.01", **options):
    points = [(0.5, 0), *((score, 10 * (i + 1)) for i, score in enumerate(scores))]
    return evidence(table(*points, kinds=[UNIFORM] * len(points)), margin, **options)


def found(*scores, **options):
    return slope(ladder(*scores, **options))


def test_a_slope_above_the_margin_says_that_rank_matters() -> None:
    steep = found(0.6, 0.63, 0.62)
    assert (steep.smallest, steep.best, steep.is_flat) == (1, 2, False)
    assert steep.delta == pytest.approx(0.03)
    assert steep.sentence.startswith("Rank matters: uniform rank 2 gains +0.0300 (+0.0300 to +0.0300) above uniform")


def test_a_slope_within_the_margin_says_that_it_does_not() -> None:
    flat = found(0.6, 0.605)
    assert flat.is_flat
    assert flat.sentence.startswith("Rank does not matter here: uniform rank 2 gains +0.0050")


def test_the_smallest_rank_may_be_the_best() -> None:
    falling = found(0.63, 0.62)
    assert falling.is_flat
    assert falling.sentence == "Rank does not matter here: no uniform rank scores higher than rank 1 on validation."


def test_one_uniform_map_has_no_slope() -> None:
    assert found(0.6) is None


def test_where_rank_does_not_matter_only_smaller_maps_than_the_smallest_uniform_one_are_worth_a_training() -> None:
    space = replace(SPACE, ladder=(0, 1, 2))
    assert search_budget(ladder(0.6, 0.605), space) == 10 - 1
    assert search_budget(ladder(0.6, 0.63), space) is None  # rank matters
    assert search_budget(ladder(0.6, 0.605), SPACE) is None  # rank 4 is not trained yet
    assert search_budget(ladder(0.6, 0.605), replace(SPACE, ladder=(1, 2))) is None  # there are no smaller maps
