"""Which rivals a study wants."""

from rank_search.core.ranks import Shape
from rank_search.core.rivals import ADALORA, EVA, SVD, Rival, Rivals, truncated_to
from rank_search.core.space import Space
from tests.bench import SPACE

ALL = ("svd", "eva", "adalora")


def test_large_training_comes_first_then_truncations_then_redistributions() -> None:
    rivals = Rivals(SPACE, ALL).all
    assert rivals[0] == Rival(SVD, "scratch", rank=8)
    recipes = [rival.recipe for rival in rivals[1:]]
    assert recipes == sorted(recipes, key=["truncate", "eva", "adalora"].index)
    assert [rival.rank for rival in rivals if rival.kind == EVA] == [1, 2, 4]
    assert [rival.rank for rival in rivals if rival.kind == ADALORA] == [1, 2, 4]
    assert len(set(rivals)) == len(rivals)


def test_only_what_the_study_file_asks_for() -> None:
    assert Rivals(SPACE, ()).all == ()
    assert {rival.kind for rival in Rivals(SPACE, ["eva"]).all} == {EVA}


def test_truncations_have_the_sizes_of_the_uniform_maps_and_parts_of_the_smallest() -> None:
    budgets = [rival.budget for rival in Rivals(SPACE, ALL).truncations if rival.budget]
    uniform = [SPACE.parameters(SPACE.uniform(rank)) for rank in (1, 2, 4)]
    # An eighth of the smallest uniform map would not hold the cheapest component.
    assert budgets == [uniform[0] // 4, uniform[0] // 2, *uniform]
    assert min(budgets) >= Rivals(SPACE, ALL).smallest_budget


def test_large_rank_stays_within_the_smallest_module() -> None:
    space = Space({"w": Shape(6, 100)}, {"w": ("w",)}, (0, 4))
    assert Rivals(space, ALL).large.rank == 6


def test_labels_are_words_for_people() -> None:
    assert truncated_to(12_288).label == "SVD truncated to 12,288 parameters"
    assert Rival(SVD, "truncate", energy=0.9).label == "SVD truncated to 90% of each module's energy"
    assert Rival(EVA, "eva", rank=4).label == "EVA from rank 4"
    assert Rival(SVD, "scratch", rank=8).label == "large training for SVD, rank 8"
