"""The sampler that models the score and knows the price."""

import math

import numpy as np
import optuna
import pytest
import torch

from rank_search.core.space import Space
from rank_search.search.proposals.cost_aware import CostAwareSampler, _Observed
from rank_search.search.proposals.encoder import Encoder
from rank_search.search.proposals.samplers import DistinctSampler, sampler_maker, suggest
from rank_search.search.proposals.score_model import quiet
from tests.bench import SPACE, Landscape
from tests.search.proposals.spaces import JOINT, LARGE, landscape

pytestmark = pytest.mark.slow


def searched(space, trials, seed=0, kind="nehvi", energies=None):
    """A search that begins with the smallest map, as every study does: what a map adds counts from there."""
    sampler = DistinctSampler(sampler_maker(kind, space, lambda: energies), seed, space)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.enqueue_trial(space.proposal(space.uniform(space.ladder[0])))
    for _ in range(trials):
        trial = study.ask()
        suggest(trial, space)
        study.tell(trial, [landscape(space, trial.params), space.parameters(space.rank_map(trial.params))])
    return study


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
    coding = Encoder(SPACE)
    sampler = CostAwareSampler(0, coding)
    observed = _Observed.from_trials(study.trials)
    seen = [trial.params for trial in study.trials]
    pool = coding.points([proposal for proposal in coding.every() if proposal not in seen])
    with quiet():
        before = sampler._improvement(observed, [])(pool, sampler._cost(pool))
        best = [proposal for proposal in coding.every() if proposal not in seen][int(before.argmax())]
        after = sampler._improvement(observed, [best])(pool, sampler._cost(pool))
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


@pytest.mark.long
def test_it_finds_the_front_sooner_than_chance() -> None:
    """After 20 of 256 maps, over five seeds; benchmarks/samplers.py compares it with Optuna's samplers."""
    ours, chance = ([hypervolume(searched(SPACE, 20, seed, kind)) for seed in range(5)] for kind in ("nehvi", "random"))
    assert sum(volume > max(chance) for volume in ours) >= 4
    assert min(ours) > 0.95 * np.median(chance)


@pytest.mark.long
@pytest.mark.parametrize("is_true", [True, False], ids=["true", "misleading"])
def test_energies_help_where_they_are_true_and_do_little_harm_where_they_mislead(is_true) -> None:
    """After 8 of 256 maps, over five seeds."""
    weights = (1, 1 / 2, 1 / 3, 1 / 4) if is_true else (1 / 4, 1 / 3, 1 / 2, 1)
    energies = {name: [weight / (1 + i) for i in range(8)] for name, weight in zip(SPACE.shapes, weights, strict=True)}
    with_energies, without = (
        np.median([hypervolume(searched(SPACE, 8, seed, energies=known)) for seed in range(5)])
        for known in (energies, None)
    )
    assert with_energies > without if is_true else with_energies > 0.9 * without


def test_noise_is_that_of_repeats_where_there_are_any(bench) -> None:
    study = bench.search(27, Landscape(noise=0.02), repeats=14)
    observed = _Observed.from_trials(study.trials)
    assert len(observed.scores) == 13
    assert observed.variances is not None
    assert len(set(observed.variances.tolist())) > 1  # a map that was trained twice is known better
    repeats = [trial for trial in study.trials if trial.user_attrs.get("batch_order")]
    few = _Observed.from_trials([trial for trial in study.trials if trial not in repeats[2:]])
    assert few.variances is None  # two repeats say too little of the noise
    alone = _Observed.from_trials([trial for trial in study.trials if trial not in repeats])
    assert alone.variances is None
    assert math.isfinite(alone.reference)


def test_model_of_a_long_study_sees_what_is_near_the_front_and_some_of_the_rest() -> None:
    draw = np.random.default_rng(0)
    prices, scores = draw.permutation(300).astype(float), draw.random(300)
    whole = _Observed([{"a": float(i)} for i in range(300)], scores, prices, scores / 10, reference=0.5)
    assert whole.limited(300, draw) is whole
    few = whole.limited(40, draw)
    assert len(few.scores) == 40
    assert few.reference == 0.5
    assert [proposal["a"] for proposal in few.front(300)] == [proposal["a"] for proposal in whole.front(300)]
    places = [int(proposal["a"]) for proposal in few.proposals]
    assert places == sorted({*places})
    for found, all_ in ((few.scores, scores), (few.costs, prices), (few.variances, scores / 10)):
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
        directions=["maximize", "minimize"], sampler=DistinctSampler(sampler_maker("nehvi", SPACE), 0, SPACE)
    )
    for _ in range(6):
        trial = study.ask()
        suggest(trial, SPACE)
        study.tell(trial, [0.5, SPACE.parameters(SPACE.rank_map(trial.params))])
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 6
