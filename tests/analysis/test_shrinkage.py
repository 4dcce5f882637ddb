"""What a chosen map can be expected to score again."""

import numpy as np
import pytest

from rank_search.analysis.choice import choose
from rank_search.analysis.shrinkage import expected_score
from rank_search.core.choice import Rule
from tests.analysis.conftest import evidence, table


def test_best_of_noisy_scores_is_expected_to_score_less_again() -> None:
    """Twenty maps that are equally good: the best is the luckiest."""
    draw = np.random.default_rng(0)
    points = [(0.7 + 0.01 * draw.normal(), 10 * (i + 1)) for i in range(20)]
    found = evidence(table(*points), noise=0.2)  # the paired scores vary by 0.014
    best = choose(found, Rule("best"))
    assert 0.695 < expected_score(found, best) < best.score - 0.01


def test_scores_without_noise_stay_as_they_are() -> None:
    draw = np.random.default_rng(0)
    points = [(0.7 + 0.05 * draw.normal(), 10 * (i + 1)) for i in range(20)]
    found = evidence(table(*points))
    best = choose(found, Rule("best"))
    assert expected_score(found, best) == pytest.approx(best.score)


def test_a_map_above_the_line_is_shrunken_towards_it_and_not_to_the_mean() -> None:
    points = [(0.5 + 0.05 * i, 10 * 2**i) for i in range(8)]
    found = evidence(table(*points), noise=0.1)
    largest = choose(found, Rule("best"))
    assert expected_score(found, largest) == pytest.approx(largest.score, abs=0.002)


def test_few_maps_say_nothing() -> None:
    found = evidence(table((0.5, 10), (0.6, 20)))
    assert expected_score(found, found.by_number[1]) is None
    assert expected_score(evidence(table((0.5, 0))), evidence(table((0.5, 0))).by_number[0]) is None
