"""From a proposal to the features that a model of the score takes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rank_search.core.ranks import Shape
from rank_search.core.space import JointSetting, Space
from rank_search.search.proposals.encoder import Encoder, _share, _value
from rank_search.search.proposals.samplers import distributions
from tests.bench import SPACE
from tests.search.proposals.spaces import JOINT, LARGE

GROUPED = Space(
    {"a": Shape(4, 4), "b": Shape(10, 20), "c": Shape(6, 6)}, {"ab": ("a", "b"), "c": ("c",)}, ladder=(0, 1, 8)
)


@given(st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_points_hold_the_exact_cost(indices) -> None:
    proposal = dict(zip(SPACE.dimensions, indices, strict=True))
    encoder = Encoder(SPACE)
    points = encoder.points([proposal])
    assert points.shape == (1, 5)
    assert points.min() >= 0
    assert points.max() <= 1
    assert points[0, :4].tolist() == [index / 3 for index in indices]
    cost = -encoder.negative_cost(points).item() * SPACE.most_parameters
    assert cost == pytest.approx(SPACE.parameters(SPACE.rank_map(proposal)), abs=1e-6)


@settings(max_examples=30)
@given(st.integers(0, 1000))
def test_draws_and_neighbours_are_proposals_of_the_space(seed) -> None:
    draw = np.random.default_rng(seed)
    encoder = Encoder(JOINT)
    proposal = encoder.drawn(draw)
    for found in [proposal, *encoder.neighbours(proposal, draw)]:
        assert found.keys() == distributions(JOINT).keys()
        assert all(distribution._contains(found[name]) for name, distribution in distributions(JOINT).items())
    neighbours = encoder.neighbours(proposal, draw)
    for neighbour in neighbours:
        changed = {name: neighbour[name] - proposal[name] for name in proposal if neighbour[name] != proposal[name]}
        assert len(changed) <= 1 or sorted(changed.values()) == [-1, 1]  # a step, or a swap of two rungs


@given(st.integers(1, 999), st.integers(1, 999), st.integers(-5, 2), st.sampled_from([0.0, 0.3, 1.0]), st.booleans())
def test_values_stay_in_their_range(one, other, exponent, share, log) -> None:
    """Optuna refuses what lies outside by the last digit of a float."""
    low, high = sorted((one * 10.0**exponent, other * 10.0**exponent))
    assert low <= _value(share, low, high, log=log, whole=False) <= high


def test_every_proposal_of_a_small_space_is_listed_once() -> None:
    every = Encoder(SPACE).every()
    assert len(every) == len({tuple(proposal.values()) for proposal in every}) == SPACE.size


@pytest.mark.parametrize("space", [SPACE, GROUPED, LARGE])
def test_cost_reaches_from_0_to_1_on_a_log_scale(space) -> None:
    encoder, every = Encoder(space), [space.proposal(space.uniform(rank)) for rank in space.ladder]
    costs = encoder.points(every)[:, -1]
    assert (costs[0], costs[-1]) == (0, pytest.approx(1))
    assert torch.equal(costs, costs.sort().values)
    assert costs[1] > 0.25  # on a linear scale it would be 1/4 or 1/8


def test_cost_of_a_group_is_that_of_all_its_modules() -> None:
    encoder = Encoder(GROUPED)
    costs = -encoder.negative_cost(encoder.points([{"ab": 1, "c": 0}, {"ab": 0, "c": 2}]))[:, 0]
    assert costs.tolist() == pytest.approx([38 / (8 * 50), 96 / (8 * 50)])


def test_settings_stand_between_their_bounds_before_the_cost() -> None:
    proposal = {**dict.fromkeys(JOINT.dimensions, 0), "learning_rate": 1e-3, "augmentation": 1}
    (point,) = Encoder(JOINT).points([proposal]).tolist()
    assert point == pytest.approx([0, 0, 0, 0, 0.5, 1, 0])  # halfway from 1e-4 to 1e-2 on a log scale


def test_one_rung_is_enough() -> None:
    space = Space({"a": Shape(4, 4)}, {"a": ("a",)}, (2,), {"augmentation": JointSetting(0, 1, 0, switch=True)})
    encoder = Encoder(space)
    assert encoder.every() == [{"a": 0, "augmentation": 0}, {"a": 0, "augmentation": 1}]
    assert encoder.points(encoder.every()).tolist() == [[0, 0, 1], [0, 1, 1]]


@given(st.floats(0, 1), st.integers(-5, 2), st.integers(2, 1000), st.booleans())
def test_a_share_comes_back_from_its_value(share, exponent, factor, log) -> None:
    low = 10.0**exponent
    value = _value(share, low, factor * low, log=log, whole=False)
    assert _share(value, low, factor * low, log=log) == pytest.approx(share, abs=1e-9)


def test_small_maps_are_drawn_as_often_as_large_ones() -> None:
    """Ranks drawn one by one would all but never give a map near either end."""
    encoder, draw = Encoder(LARGE), np.random.default_rng(0)
    sizes = np.array([sum(encoder.drawn(draw).values()) for _ in range(400)]) / (3 * len(LARGE.dimensions))
    counts, _ = np.histogram(sizes, bins=4, range=(0, 1))
    assert counts.min() > 60


def test_draws_follow_from_the_seed() -> None:
    encoder = Encoder(JOINT)
    one, again, other = (encoder.drawn(np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert one == again != other


@pytest.mark.parametrize(("index", "near"), [(0, [1]), (1, [0, 2]), (3, [2])])
def test_neighbours_are_one_rung_up_or_down_within_the_ladder(index, near) -> None:
    start = dict.fromkeys(SPACE.dimensions, index)
    expected = [{**start, name: other} for name in SPACE.dimensions for other in near]
    neighbours = Encoder(SPACE).neighbours(start, np.random.default_rng(0))
    assert neighbours[: len(expected)] == expected
    assert len(neighbours[len(expected) :]) == (12 if index == 1 else 0)  # swaps of a rung between two of four


@pytest.mark.parametrize("switch", [0, 1])
def test_neighbours_try_another_value_of_each_setting(switch) -> None:
    start = {**dict.fromkeys(JOINT.dimensions, 0), "learning_rate": 1e-3, "augmentation": switch}
    rate, switched = Encoder(JOINT).neighbours(start, np.random.default_rng(0))[-2:]
    assert switched == {**start, "augmentation": 1 - switch}
    assert rate["learning_rate"] != 1e-3
    assert 1e-4 <= rate["learning_rate"] <= 1e-2
