"""The sampler that models the score and knows the price."""

import dataclasses
import math

import numpy as np
import optuna
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rank_search.core.space import JointSetting, Space
from rank_search.search.proposals.cost_aware import KnownPriceSampler, _Observed
from rank_search.search.proposals.encoder import Coding, _value
from rank_search.search.proposals.samplers import DistinctSampler, distributions, maker, suggest
from rank_search.search.proposals.score_model import _OwnParts, quiet
from tests.bench import SPACE, Landscape

JOINT = dataclasses.replace(
    SPACE,
    joint={
        "learning_rate": JointSetting(1e-4, 1e-2, 1e-3, log=True),
        "augmentation": JointSetting(0, 1, 0, switch=True),
    },
)
LARGE = Space(
    shapes={
        f"layer.{i}.{part}": shape for i in range(8) for part, shape in zip("ab", SPACE.shapes.values(), strict=False)
    },
    dimensions={f"{i}{part}": (f"layer.{i}.{part}",) for i in range(8) for part in "ab"},
    ladder=(0, 1, 2, 4),
)


def landscape(space, proposal) -> float:
    """The score of a map: concave in each layer's rank, and weighted by the layer."""
    weights = 1 / (1 + np.arange(len(space.dimensions)))
    ranks = [space.ladder[int(proposal[name])] for name in space.dimensions]
    return float(weights @ np.sqrt(ranks)) / 10


def searched(space, trials, seed=0, kind="nehvi", nested=()):
    """A search that begins with the smallest map, as every study does: what a map adds counts from there."""
    sampler = DistinctSampler(maker(kind, space, nested), seed, space)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.enqueue_trial(space.proposal(space.uniform(space.ladder[0])))
    for _ in range(trials):
        trial = study.ask()
        suggest(trial, space)
        study.tell(trial, [landscape(space, trial.params), space.parameters(space.rank_map(trial.params))])
    return study


@given(st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_points_hold_the_exact_price(indices) -> None:
    proposal = dict(zip(SPACE.dimensions, indices, strict=True))
    coding = Coding(SPACE)
    points = coding.points([proposal])
    assert points.shape == (1, 5)
    assert points.min() >= 0
    assert points.max() <= 1
    assert points[0, :4].tolist() == [index / 3 for index in indices]
    price = -coding.negative_price(points).item() * SPACE.most_parameters
    assert price == pytest.approx(SPACE.parameters(SPACE.rank_map(proposal)), abs=1e-6)


@settings(max_examples=30)
@given(st.integers(0, 1000))
def test_draws_and_neighbours_are_proposals_of_the_space(seed) -> None:
    draw = np.random.default_rng(seed)
    coding = Coding(JOINT)
    proposal = coding.drawn(draw)
    for of in [proposal, *coding.neighbours(proposal, draw)]:
        assert of.keys() == distributions(JOINT).keys()
        assert all(distribution._contains(of[name]) for name, distribution in distributions(JOINT).items())
    steps = [sum(of[name] != proposal[name] for name in proposal) for of in coding.neighbours(proposal, draw)]
    assert max(steps) == 1


@given(st.integers(1, 999), st.integers(1, 999), st.integers(-5, 2), st.sampled_from([0.0, 0.3, 1.0]), st.booleans())
def test_values_stay_in_their_range(one, other, exponent, share, log) -> None:
    """Optuna refuses what lies outside by the last digit of a float."""
    low, high = sorted((one * 10.0**exponent, other * 10.0**exponent))
    assert low <= _value(share, low, high, log=log, whole=False) <= high


def test_every_proposal_of_a_small_space_is_listed_once() -> None:
    every = Coding(SPACE).every()
    assert len(every) == len({tuple(of.values()) for of in every}) == SPACE.size


@pytest.mark.parametrize("space", [SPACE, JOINT, LARGE], ids=["listed", "with settings", "drawn"])
def test_proposals_are_new_and_follow_from_the_seed(space) -> None:
    one, again, other = (searched(space, 8, seed) for seed in (0, 0, 1))
    proposed = [tuple(trial.params.values()) for trial in one.trials]
    assert len(set(proposed)) == 8
    assert proposed == [tuple(trial.params.values()) for trial in again.trials]
    assert proposed != [tuple(trial.params.values()) for trial in other.trials]


def test_it_exhausts_a_space() -> None:
    space = Space({"a": SPACE.shapes["layer.0.w"]}, {"a": ("a",)}, (0, 1, 2, 4))
    assert {trial.params["a"] for trial in searched(space, 4).trials} == {0, 1, 2, 3}


def test_proposals_of_one_pack_differ_and_see_those_in_training() -> None:
    study = searched(SPACE, 8)
    pack = [study.ask() for _ in range(4)]
    for trial in pack:
        suggest(trial, SPACE)
    assert len({tuple(trial.params.values()) for trial in pack}) == 4


def test_a_map_in_training_makes_its_neighbours_worth_less() -> None:
    study = searched(SPACE, 8)
    coding = Coding(SPACE)
    sampler = KnownPriceSampler(0, coding)
    observed = _Observed.of(study.trials)
    seen = [trial.params for trial in study.trials]
    pool = coding.points([of for of in coding.every() if of not in seen])
    with quiet():
        before = sampler._improvement(observed, [])(pool, sampler._price(pool))
        best = [of for of in coding.every() if of not in seen][int(before.argmax())]
        after = sampler._improvement(observed, [best])(pool, sampler._price(pool))
    around = coding.points(coding.neighbours(best, np.random.default_rng(0)))
    near = (pool[:, None] == around[None]).all(dim=2).any(dim=1)
    assert near.any()
    assert (after < before)[near].float().mean() > 0.5
    assert (before - after)[near].mean() > (before - after)[~near].mean()


def hypervolume(study) -> float:
    area, floor = 0.0, 0.0
    for trial in sorted(study.best_trials, key=lambda trial: trial.values[1]):
        area += max(0.0, trial.values[0] - floor) * (SPACE.reference_parameters - trial.values[1])
        floor = max(floor, trial.values[0])
    return area


def test_it_finds_the_front_sooner_than_chance() -> None:
    """After 20 of 256 maps, over five seeds; benchmarks/samplers.py compares it with Optuna's samplers."""
    ours, chance = ([hypervolume(searched(SPACE, 20, seed, kind)) for seed in range(5)] for kind in ("nehvi", "random"))
    assert sum(of > max(chance) for of in ours) >= 4
    assert min(ours) > 0.95 * np.median(chance)


@pytest.mark.parametrize("sign", [1, -1], ids=["true", "misleading"])
def test_nested_scores_help_where_they_are_true_and_do_little_harm_where_they_mislead(sign) -> None:
    """After 8 of 256 maps, over five seeds."""
    draw = np.random.default_rng(0)
    looked_at = draw.permutation(np.array(Coding(SPACE).every()))[:60]
    nested = [(of, sign * landscape(SPACE, of) + draw.normal(0, 0.02)) for of in looked_at]
    with_nested, without = (
        np.median([hypervolume(searched(SPACE, 8, seed, nested=scores)) for seed in range(5)])
        for scores in (nested, ())
    )
    assert with_nested > without if sign == 1 else with_nested > 0.9 * without


@pytest.mark.parametrize("space", [SPACE, JOINT, LARGE])
def test_points_hold_what_nested_scores_say(space) -> None:
    draw = np.random.default_rng(0)
    plain = Coding(space)
    proposals = [plain.drawn(draw) for _ in range(80)]
    scores = [landscape(space, of) for of in proposals]
    ranks_only = [{name: of[name] for name in space.dimensions} for of in proposals]
    coding = Coding(space, list(zip(ranks_only[:60], scores[:60], strict=True)))
    points, without = coding.points(proposals[60:]), plain.points(proposals[60:])
    assert torch.equal(torch.cat([points[:, :-2], points[:, -1:]], dim=1), without)
    assert np.corrcoef(points[:, -2], scores[60:])[0, 1] > 0.95


def test_noise_is_that_of_repeats_where_there_are_any(bench) -> None:
    study = bench.search(20, Landscape(noise=0.02), repeats=7)
    observed = _Observed.of(study.trials)
    assert len(observed.scores) == 13
    assert observed.variances is not None
    assert len(set(observed.variances.tolist())) > 1  # a map that was trained twice is known better
    repeats = [trial for trial in study.trials if trial.user_attrs.get("round")]
    few = _Observed.of([trial for trial in study.trials if trial not in repeats[2:]])
    assert few.variances is None  # two repeats say too little of the noise
    alone = _Observed.of([trial for trial in study.trials if trial not in repeats])
    assert alone.variances is None
    assert math.isfinite(alone.reference)


@pytest.mark.parametrize("space", [SPACE, JOINT, LARGE], ids=["listed", "with settings", "drawn"])
def test_own_parts_are_the_mean_of_kernels_of_one_feature_each(space) -> None:
    draw, coding = np.random.default_rng(0), Coding(space)
    x = coding.points([coding.drawn(draw) for _ in range(12)])
    kernel = _OwnParts(len(space.dimensions), len(space.ladder)).double()
    kernel.lengthscale = 0.3
    found = kernel(x[:5], x).to_dense()
    apart = (x[:5, None] - x[None]).detach() / 0.3
    assert torch.allclose(found, torch.exp(-(apart**2) / 2).mean(-1), atol=1e-12)
    assert torch.allclose(kernel(x, diag=True), torch.ones(12, dtype=x.dtype))
    found.sum().backward()
    slope = (torch.exp(-(apart**2) / 2) * apart**2 / 0.3).mean(-1).sum()
    assert kernel.raw_lengthscale.grad.item() == pytest.approx(
        (slope * torch.sigmoid(kernel.raw_lengthscale)).item(), rel=1e-6
    )


def test_model_of_a_long_study_sees_what_is_near_the_front_and_some_of_the_rest() -> None:
    draw = np.random.default_rng(0)
    prices, scores = draw.permutation(300).astype(float), draw.random(300)
    whole = _Observed([{"a": float(i)} for i in range(300)], scores, prices, scores / 10, reference=0.5)
    assert whole.limited(300, draw) is whole
    few = whole.limited(40, draw)
    assert len(few.scores) == 40
    assert few.reference == 0.5
    assert [of["a"] for of in few.front(300)] == [of["a"] for of in whole.front(300)]
    places = [int(of["a"]) for of in few.proposals]
    assert places == sorted({*places})
    for found, all_ in ((few.scores, scores), (few.prices, prices), (few.variances, scores / 10)):
        assert found.tolist() == all_[places].tolist()
    assert np.median(few.scores) > np.median(scores) > few.scores.min()


def test_model_of_a_long_front_sees_some_of_every_price() -> None:
    count = 300
    front = _Observed([{"a": i} for i in range(count)], np.arange(count), np.arange(count), None, reference=0.0)
    near = front.limited(40, np.random.default_rng(0)).scores
    gaps = np.diff([0, *near, count])
    assert len(near) == 40
    assert gaps.max() <= 2 * count / 20


def test_global_random_numbers_are_left_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    searched(SPACE, 5)
    assert torch.equal(torch.rand(3), expected)


def test_wholly_flat_scores_do_no_harm() -> None:
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=DistinctSampler(maker("nehvi", SPACE), 0, SPACE)
    )
    for _ in range(6):
        trial = study.ask()
        suggest(trial, SPACE)
        study.tell(trial, [0.5, SPACE.parameters(SPACE.rank_map(trial.params))])
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 6
