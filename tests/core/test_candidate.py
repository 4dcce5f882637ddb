"""The key of a candidate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rank_search.core.candidate import Candidate
from rank_search.core.ranks import RankMap

MAPS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), min_size=1).map(RankMap)
SETTINGS = st.dictionaries(st.sampled_from(["alpha", "learning_rate"]), st.floats(1e-6, 10), max_size=2)
CANDIDATES = st.builds(
    Candidate, MAPS, SETTINGS, st.sampled_from(["scratch", "eva", "truncate"]), st.none() | st.integers(0, 9)
)


@given(CANDIDATES, CANDIDATES)
def test_key_is_the_same_for_the_same_candidate_alone(one, other) -> None:
    same = (one.rank_map.adapted, dict(one.settings), one.recipe, one.source) == (
        other.rank_map.adapted,
        dict(other.settings),
        other.recipe,
        other.source,
    )
    assert (one.key == other.key) is same
    assert (one == other) is same
    assert len({one, other}) == (1 if same else 2)


def test_key_of_a_plain_training_is_that_of_its_map() -> None:
    rank_map = RankMap({"w": 2})
    assert Candidate(rank_map).key == rank_map.key
    assert Candidate(rank_map, {"alpha": 8.0}, "truncate", 7).key == f"{rank_map.key}-alpha=8.0-truncate-7"


def test_settings_can_not_be_changed_afterwards() -> None:
    given_settings = {"alpha": 8.0}
    candidate = Candidate(RankMap({"w": 2}), given_settings)
    given_settings["alpha"] = 1.0
    assert candidate.settings == {"alpha": 8.0}
    with pytest.raises(TypeError):
        candidate.settings["alpha"] = 1.0
