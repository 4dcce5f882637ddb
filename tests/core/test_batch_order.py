"""Means of maps over their trainings: effects of maps and batch orders, and the noise that is left."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rank_search.core.batch_order import MapMeans, fit_map_means

SCORES = st.floats(-1, 1)


def fit(*trainings: tuple[str, int, float]) -> MapMeans:
    """The means of trainings, each (map, batch order, score)."""
    return fit_map_means(pd.DataFrame(trainings, columns=["name", "batch_order", "score"]))


def test_maps_without_repeats_have_their_scores_and_no_known_noise() -> None:
    means = fit(("a", 0, 0.5), ("b", 0, 0.7))
    assert means.mean == {"a": 0.5, "b": 0.7}
    assert all(math.isnan(noise) for noise in (*means.se.values(), means.sigma))
    assert means.freedom == 0


def test_no_training_has_no_means() -> None:
    means = fit()
    assert means.mean == means.se == {}
    assert math.isnan(means.sigma)


def test_two_repeated_maps_by_hand() -> None:
    """Order 1 adds 0.11 on average; what each map differs from that is ±0.01, of which each training bears a half."""
    means = fit(("a", 0, 0.50), ("b", 0, 0.60), ("a", 1, 0.60), ("b", 1, 0.72), ("once", 0, 0.9))
    sigma = math.sqrt(4 * 0.005**2 / 1)  # four residuals of ±0.005, and one degree of freedom
    assert means.sigma == pytest.approx(sigma)
    assert means.freedom == 1
    assert means.mean == pytest.approx({"a": 0.495, "b": 0.605, "once": 0.9})
    # Four scores, one parameter for each of two maps and one order: (XᵀX)⁻¹ is 3/4 for a map.
    assert means.se == pytest.approx({"a": sigma * math.sqrt(3 / 4), "b": sigma * math.sqrt(3 / 4), "once": sigma})


def test_repeats_on_one_order_are_averaged() -> None:
    means = fit(("a", 0, 0.4), ("a", 0, 0.6))
    assert means.mean == pytest.approx({"a": 0.5})
    assert means.sigma == pytest.approx(math.sqrt(2) * 0.1)
    assert means.se["a"] == pytest.approx(0.1)
    assert means.freedom == 1


def test_one_repeated_map_tells_nothing_of_noise() -> None:
    """What differs may all be the order's."""
    means = fit(("a", 0, 0.4), ("a", 1, 0.6), ("b", 0, 0.5))
    assert means.mean == pytest.approx({"a": 0.4, "b": 0.5})
    assert math.isnan(means.sigma)
    assert all(math.isnan(noise) for noise in means.se.values())
    assert means.freedom == 0


@settings(max_examples=50)
@given(st.lists(SCORES, min_size=2, max_size=6), st.lists(SCORES, min_size=1, max_size=3), st.integers(0, 100))
def test_maps_and_orders_are_recovered_from_exact_scores(maps, orders, seed) -> None:
    """Every map is trained on order 0, and two or more, drawn by chance, on each later one."""
    draw = np.random.default_rng(seed)
    trainings = [(str(i), 0, score) for i, score in enumerate(maps)]
    for order, effect in enumerate(orders, start=1):
        picked = draw.choice(len(maps), size=draw.integers(2, len(maps) + 1), replace=False)
        trainings += [(str(i), order, maps[i] + effect) for i in picked]
    means = fit(*trainings)
    assert [means.mean[str(i)] for i in range(len(maps))] == pytest.approx(maps, abs=1e-9)
    assert not means.sigma > 1e-9


@settings(max_examples=20)
@given(st.lists(SCORES, min_size=4, max_size=4), SCORES)
def test_luck_of_a_later_order_that_all_its_maps_share_changes_nothing(scores, luck) -> None:
    first, second, third, fourth = scores
    plain, lucky = (
        fit(("a", 0, first), ("b", 0, second), ("a", 1, third + added), ("b", 1, fourth + added)) for added in (0, luck)
    )
    assert lucky.mean == pytest.approx(plain.mean, abs=1e-9)
    assert lucky.sigma == pytest.approx(plain.sigma, abs=1e-9)


def test_sigma_and_standard_errors_are_those_of_the_noise_that_scores_were_made_with() -> None:
    draw = np.random.default_rng(0)
    effects = draw.normal(size=300)
    noisy = [(str(i), order, effects[i] + 3 * order + draw.normal(0, 0.2)) for i in range(300) for order in range(2)]
    means = fit(*noisy)
    assert means.freedom == 600 - 300 - 1
    assert means.sigma == pytest.approx(0.2, rel=0.1)
    errors = np.array([(means.mean[str(i)] - effects[i]) / means.se[str(i)] for i in range(300)])
    assert math.sqrt(float(np.mean(errors**2))) == pytest.approx(1, rel=0.1)
