"""The difference of two maps in pairs, and its interval."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rank_search.analysis.paired import SeedNoise, merged, paired_difference, pooled_noise

DRAW = np.random.default_rng(0)


def differences(draw, seeds: int, examples: int = 200, of_seed: float = 0.0, rest: float = 0.3) -> np.ndarray:
    """Differences of 0.3 with the noise of seeds, of examples and of both."""
    found = 0.3 + of_seed * draw.normal(size=(seeds, 1)) + draw.normal(0, 0.5, (1, examples))
    return found + draw.normal(0, rest, (seeds, examples))


def test_interval_of_many_seeds_is_that_of_two_crossed_factors() -> None:
    """By hand, from the mean squares of a balanced table without repetition (Searle et al., Variance Components)."""
    values = differences(np.random.default_rng(3), 40, 60, of_seed=0.2)
    found = paired_difference(values)
    of_seed, of_example = values.mean(axis=1), values.mean(axis=0)
    rest = ((values - of_seed[:, None] - of_example + values.mean()) ** 2).sum() / (39 * 59)
    variance = of_seed.var(ddof=1) / 40 + of_example.var(ddof=1) / 60 - rest / (40 * 60)
    assert found.delta == pytest.approx(values.mean())
    assert found.se == pytest.approx(math.sqrt(variance))
    assert found.of_rest == pytest.approx(rest)


def test_interval_of_one_seed_whose_noise_is_known_to_be_none_is_that_of_the_examples() -> None:
    values = np.random.default_rng(0).normal(0.1, 1, 400)
    interval = paired_difference([values], SeedNoise(0.0, 1e9)).interval()
    assert interval == pytest.approx(stats.t.interval(0.95, 399, values.mean(), stats.sem(values)), rel=0.02)


def test_one_training_alone_is_not_taken_for_sure() -> None:
    """Where nobody knows what a seed adds, as much as elsewhere is taken."""
    values = np.random.default_rng(0).normal(0.1, 1, 400)
    known = paired_difference([values], SeedNoise(0.0, 1e9))
    assert paired_difference([values]).se > 1.2 * known.se


def test_one_example_of_one_training_says_nothing() -> None:
    found = paired_difference([[0.3]])
    assert found.interval() == (-math.inf, math.inf)
    assert found.probability_below(0.0) == 0.5
    low, high = paired_difference([[0.3], [0.1], [0.2]]).interval()
    assert low < 0
    assert high > 0.4


def test_interval_of_equal_differences_is_a_point() -> None:
    found = paired_difference([[0.25, 0.25, 0.25]] * 2)
    assert found.interval() == pytest.approx((0.25, 0.25))
    assert (found.probability_below(0.2), found.probability_below(0.3)) == (0.0, 1.0)


@given(st.integers(1, 6), st.integers(2, 30), st.floats(-5, 5), st.floats(0.1, 10))
def test_a_shift_moves_the_interval_and_a_scale_stretches_it(seeds, examples, shift, scale) -> None:
    values = np.random.default_rng(seeds * 100 + examples).normal(size=(seeds, examples))
    low, high = paired_difference(values).interval()
    moved = paired_difference(scale * values + shift).interval()
    assert moved == pytest.approx((scale * low + shift, scale * high + shift), rel=1e-6, abs=1e-6)


@given(st.integers(1, 5), st.integers(2, 30))
def test_the_other_way_round_the_interval_is_mirrored(seeds, examples) -> None:
    values = np.random.default_rng(seeds * 100 + examples).normal(size=(seeds, examples))
    low, high = paired_difference(values).interval()
    assert paired_difference(-values).interval() == pytest.approx((-high, -low))


@pytest.mark.parametrize("seeds", [1, 2, 3, 10])
@pytest.mark.parametrize("of_seed", [0.0, 0.02, 0.1])
def test_interval_covers_the_truth_about_as_often_as_it_says(of_seed, seeds) -> None:
    """Whether seeds or examples make most of the noise; on noise of real trainings in benchmarks/coverage.py."""
    draw = np.random.default_rng(1)
    noise = SeedNoise(of_seed**2, 12)
    intervals = [paired_difference(differences(draw, seeds, of_seed=of_seed), noise).interval() for _ in range(400)]
    assert 0.91 <= np.mean([low <= 0.3 <= high for low, high in intervals]) <= 0.99


def test_a_few_seeds_lean_on_what_other_maps_show_of_theirs() -> None:
    values = differences(np.random.default_rng(0), 2, of_seed=0.5)
    quiet, loud = (paired_difference(values, SeedNoise(variance, 10)).se for variance in (0.0, 1.0))
    assert quiet < paired_difference(values).se < loud
    many = differences(np.random.default_rng(0), 100, of_seed=0.0)
    assert paired_difference(many, SeedNoise(0.0, 10)).se == pytest.approx(paired_difference(many).se, rel=0.1)


def test_pooled_noise_is_what_seeds_add_beyond_the_examples() -> None:
    draw = np.random.default_rng(5)
    noise = pooled_noise([differences(draw, 4, of_seed=0.1) for _ in range(200)], 20)
    assert noise.freedom == 20
    assert math.sqrt(noise.variance) == pytest.approx(0.1, rel=0.1)
    assert pooled_noise([[[0.1, 0.2]]], 3) is None


def test_noise_of_several_sources_is_weighted_by_what_they_rest_on() -> None:
    assert merged(SeedNoise(1.0, 1), None, SeedNoise(3.0, 3)) == SeedNoise(2.5, 4)
    assert merged(None, None) is None


def test_seeds_and_examples_that_are_needed_do_show_it() -> None:
    found = paired_difference(differences(np.random.default_rng(0), 3, of_seed=0.1), SeedNoise(0.01, 12))
    gap = 0.9 * found.half_width(3, 200)
    seeds, examples = found.seeds_needed(found.delta - gap), found.examples_needed(found.delta - gap)
    assert found.half_width(seeds, 200) < gap < found.half_width(seeds - 1, 200)
    assert found.half_width(3, examples) == pytest.approx(gap, rel=0.1)


def test_no_number_of_seeds_makes_up_for_few_examples() -> None:
    found = paired_difference(differences(np.random.default_rng(0), 3, examples=20))
    assert found.seeds_needed(found.delta - 0.05) is None
    assert found.examples_needed(found.delta - 0.05) > 200
