import dataclasses
import itertools

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution, IntDistribution

from rank_search.core.space import JointSetting
from rank_search.search.proposals.samplers import (
    SAMPLERS,
    DistinctSampler,
    _nearest_new,
    derive_seed,
    distributions,
    sampler_maker,
    suggest,
)
from tests.bench import SPACE
from tests.search.proposals.spaces import LARGE, landscape

pytestmark = pytest.mark.slow


def test_dimensions_are_ordinal_indices_into_the_ladder() -> None:
    assert distributions(SPACE) == {name: IntDistribution(0, 3) for name in SPACE.dimensions}


def test_joint_settings_are_numbers_on_their_own_scale() -> None:
    joint = {
        "learning_rate": JointSetting(1e-4, 1e-2, 1e-3, log=True),
        "dropout": JointSetting(0, 0.2, 0),
        "augmentation": JointSetting(0, 1, 0, switch=True),
    }
    found = distributions(dataclasses.replace(SPACE, joint=joint))
    assert {name: found[name] for name in joint} == {
        "learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
        "dropout": FloatDistribution(0, 0.2),
        "augmentation": IntDistribution(0, 1),
    }


def test_tpe_sees_the_dimensions_together() -> None:
    assert SAMPLERS["tpe"](0)._multivariate


def test_a_grid_goes_through_every_map_once_those_of_like_first_layers_together(bench) -> None:
    space = dataclasses.replace(SPACE, ladder=(0, 1, 4))
    bench.search(40, space=space, sampler="grid", pack=9)
    study = bench.search(100, space=space, sampler="grid", pack=9)
    trials = study.get_trials()
    proposed = [tuple(trial.params[name] for name in space.dimensions) for trial in trials]
    assert sorted(proposed) == list(itertools.product(range(3), repeat=4))
    searched = [map_ for map_, trial in zip(proposed, trials, strict=True) if "kind" not in trial.user_attrs]
    assert searched == sorted(searched)


@given(st.integers(0, 2**32 - 1), st.integers(0, 10_000), st.integers(0, 10_000))
def test_seeds_of_different_places_differ(seed, one, other) -> None:
    assert derive_seed(seed, one) == derive_seed(seed, one)
    assert 0 <= derive_seed(seed, one) < 2**32
    if one != other:
        assert derive_seed(seed, one) != derive_seed(seed, other)


@settings(max_examples=50)
@given(st.data())
def test_nearest_new_proposal_is_new_and_nearest(data) -> None:
    space = {name: IntDistribution(0, 2) for name in "abc"}
    every = [{"a": a, "b": b, "c": c} for a in range(3) for b in range(3) for c in range(3)]
    start = data.draw(st.sampled_from(every))
    others = data.draw(st.lists(st.sampled_from(every), max_size=26))
    seen = {frozenset(proposal.items()) for proposal in [start, *others]}
    found = _nearest_new(start, seen, space, data.draw(st.randoms(use_true_random=False)))

    def distance(proposal) -> int:
        return sum(abs(proposal[name] - start[name]) for name in proposal)

    new = [proposal for proposal in every if frozenset(proposal.items()) not in seen]
    if new:
        assert found in new
        assert distance(found) == min(distance(proposal) for proposal in new)


def test_inner_sampler_that_repeats_itself_is_turned_aside() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.sampler = DistinctSampler(sampler_maker("random", SPACE), 0, SPACE)
    sampled = set()
    for _ in range(4**4):
        trial = study.ask()
        proposal = tuple(trial.suggest_int(name, 0, 3) for name in SPACE.dimensions)
        study.tell(trial, [0.0, 0.0])
        sampled.add(proposal)
    assert len(sampled) == 4**4


@pytest.mark.parametrize("kind", ["nehvi", "tpe", "random", "nsga2", "grid"])
@pytest.mark.parametrize("space", [SPACE, LARGE], ids=["listed", "drawn"])
def test_no_proposal_is_above_the_budget_while_there_are_others(kind, space) -> None:
    budget = space.parameters(space.uniform(space.ladder[1])) - 1
    sampler = DistinctSampler(sampler_maker(kind, space), 0, space, lambda: budget)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.enqueue_trial(space.proposal(space.uniform(0)))
    sizes = []
    for _ in range(12):
        trial = study.ask()
        suggest(trial, space)
        sizes.append(space.parameters(space.rank_map(trial.params)))
        study.tell(trial, [landscape(space, trial.params), sizes[-1]])
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 12
    assert max(sizes) <= budget


def test_a_space_that_is_exhausted_below_the_budget_goes_on_above_it() -> None:
    space = dataclasses.replace(SPACE, ladder=(0, 1))
    sampler = DistinctSampler(sampler_maker("random", space), 0, space, lambda: space.parameters(space.uniform(1)) - 1)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for _ in range(2**4):
        trial = study.ask()
        suggest(trial, space)
        study.tell(trial, [0.0, 0.0])
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 2**4
