import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rank_search.config import SearchConfig, SpaceConfig


@given(st.lists(st.integers(0, 64), max_size=6))
def test_ladder_must_ascend_and_have_a_rank_above_0(ladder) -> None:
    if any(ladder) and ladder == sorted(set(ladder)):
        assert SpaceConfig(ladder=ladder).ladder == tuple(ladder)
        return
    with pytest.raises(ValidationError, match=r"has no rank above 0|must ascend without repeats"):
        SpaceConfig(ladder=ladder)


@pytest.mark.parametrize("name", ["learning_rate", "alpha", "dropout"])
def test_range_must_go_from_lowest_to_highest(name) -> None:
    assert getattr(SpaceConfig(**{name: (0.1, 0.2)}), name) == (0.1, 0.2)
    for bounds in ((0.2, 0.1), (0.1, 0.1)):
        with pytest.raises(ValidationError, match=r"must be \[lowest, highest\]"):
            SpaceConfig(**{name: bounds})


def test_targets_are_a_word_or_names() -> None:
    assert SpaceConfig(targets="attention").targets == "attention"
    assert SpaceConfig(targets=["query", "value"]).targets == ("query", "value")
    for wrong in ("attn", []):
        with pytest.raises(ValidationError, match="targets"):
            SpaceConfig(targets=wrong)


@given(st.integers(1, 100), st.none() | st.integers(0, 100))
def test_repeats_and_first_trainings_add_up_to_the_trials(trials, repeats) -> None:
    if repeats is not None and repeats >= trials:
        with pytest.raises(ValidationError, match=r"search\.repeats: .* trials leave no map to repeat; lower it"):
            SearchConfig(trials=trials, repeats=repeats)
        return
    search = SearchConfig(trials=trials, repeats=repeats)
    assert search.maps + search.repeats_planned == trials
    assert search.maps >= 1
    assert search.repeats_planned == (trials // 3 if repeats is None else repeats)


def test_pack_is_a_number_or_auto() -> None:
    assert [SearchConfig(pack=pack).pack for pack in ("auto", 4)] == ["auto", 4]
    for wrong in ("all", 0, True):
        with pytest.raises(ValidationError, match="pack"):
            SearchConfig(pack=wrong)
