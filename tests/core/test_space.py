"""Proposals and the maps that they stand for."""

import json
import math
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rank_search.core.ranks import RankMap, Shape
from rank_search.core.space import JointSetting, Space
from tests.bench import SPACE

ALPHA = JointSetting(1, 64, 16, log=True)
AUGMENTATION = JointSetting(0, 1, 0, switch=True)
GROUPED = Space(
    shapes={"q.0": Shape(4, 6), "v.0": Shape(4, 2), "q.1": Shape(4, 6)},
    dimensions={"queries": ("q.1", "q.0"), "values": ("v.0",)},
    ladder=(2, 4, 8),
    joint={"alpha": ALPHA, "augmentation": AUGMENTATION},
    transposed=("v.0",),
)
PROPOSALS = st.fixed_dictionaries(
    {
        "queries": st.integers(0, 2),
        "values": st.integers(0, 2),
        "alpha": st.floats(1, 64),
        "augmentation": st.sampled_from([0, 1]),
    }
)


@given(PROPOSALS)
def test_proposal_comes_back_from_its_candidate(proposal) -> None:
    candidate = GROUPED.candidate(proposal)
    assert GROUPED.proposal(candidate.rank_map, candidate.settings) == proposal
    assert candidate.recipe == "scratch"


@given(PROPOSALS, PROPOSALS)
def test_different_proposals_are_different_candidates(one, other) -> None:
    assert (GROUPED.candidate(one) == GROUPED.candidate(other)) is (one == other)


def test_indices_stand_for_ranks_and_modules_of_a_dimension_share_them() -> None:
    ranks = GROUPED.rank_map({"queries": 2.0, "values": 0}).ranks  # samplers may give indices as floats
    assert list(ranks.items()) == [("q.0", 8), ("v.0", 2), ("q.1", 8)], "in the model's order"


def test_settings_are_those_of_the_proposal_without_its_ranks() -> None:
    proposal = {"queries": 0, "values": 1, "alpha": 4.0, "augmentation": 1}
    assert GROUPED.settings(proposal) == {"alpha": 4.0, "augmentation": 1}


def test_map_without_settings_is_proposed_at_those_of_the_study_file() -> None:
    """Baselines are trained there."""
    ranks = GROUPED.uniform(4)
    assert GROUPED.proposal(ranks) == {"queries": 1, "values": 1, "alpha": 16, "augmentation": 0}
    assert GROUPED.proposal(ranks, {"alpha": 2.0})["alpha"] == 2.0
    assert GROUPED.proposal(ranks, {"alpha": 2.0})["augmentation"] == 0


def test_module_that_a_map_leaves_out_has_rank_zero() -> None:
    assert SPACE.proposal(RankMap({"layer.1.w": 4})) == {"layer.0": 0, "layer.1": 3, "layer.2": 0, "layer.3": 0}
    assert SPACE.proposal(RankMap({"layer.1.w": 4, "of.another.model": 0})) == SPACE.proposal(RankMap({"layer.1.w": 4}))


@pytest.mark.parametrize(
    ("space", "ranks", "problem"),
    [
        (SPACE, {"layer.0.w": 1, "b": 2, "a": 1}, "'a' is not an adaptable module of this study"),
        (SPACE, {"layer.0.w": 3}, r"rank 3 of 'layer\.0' is not on the ladder \[0, 1, 2, 4\]"),
        (GROUPED, {"q.0": 2, "q.1": 4, "v.0": 2}, r"'queries' has one rank in this study, but the map gives \[2, 4\]"),
        (GROUPED, {"q.0": 2, "q.1": 2}, r"rank 0 of 'values' is not on the ladder \[2, 4, 8\]"),
    ],
)
def test_map_outside_the_space_is_refused(space, ranks, problem) -> None:
    with pytest.raises(ValueError, match=f"^{problem}$"):
        space.proposal(RankMap(ranks))


@pytest.mark.parametrize(
    ("joint", "size"),
    [({}, 9), ({"augmentation": AUGMENTATION}, 18), ({"augmentation": AUGMENTATION, "alpha": ALPHA}, math.inf)],
)
def test_size_counts_ranks_and_switches(joint, size) -> None:
    assert replace(GROUPED, joint=joint).size == size


def test_parameters_are_exact() -> None:
    """Σ r·(in + out)."""
    assert GROUPED.parameters(RankMap({"q.0": 8, "v.0": 2, "q.1": 8})) == 8 * 10 + 2 * 6 + 8 * 10
    assert (GROUPED.least_parameters, GROUPED.most_parameters) == (2 * 26, 8 * 26)
    assert SPACE.least_parameters == 0


@given(PROPOSALS)
def test_every_map_lies_between_the_smallest_and_the_largest_and_within_the_reference(proposal) -> None:
    parameters = GROUPED.parameters(GROUPED.rank_map(proposal))
    assert GROUPED.least_parameters <= parameters <= GROUPED.most_parameters < GROUPED.reference_parameters


@pytest.mark.parametrize("space", [SPACE, GROUPED])
def test_space_comes_back_from_json(space) -> None:
    kept = json.loads(json.dumps(asdict(space)))
    found = Space.from_json(kept)
    assert found == space
    assert isinstance(found.shapes[min(found.shapes)], Shape), "parameters are counted by its fields"
    assert list(found.shapes) == list(space.shapes), "in the model's order"
