import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rank_search.analysis.front import front, hypervolume, hypervolume_history
from rank_search.analysis.maps import maps_table, probabilities
from tests.analysis.conftest import maps, table


def with_repeats(trials: pd.DataFrame, *repeats: tuple[int, int, float]) -> pd.DataFrame:
    """Further trainings of some maps: (trial, round, score)."""
    rows = [
        {**trials.iloc[first].to_dict(), "number": len(trials) + i, "batch_order": number, "score": score}
        for i, (first, number, score) in enumerate(repeats)
    ]
    return pd.concat([trials, pd.DataFrame(rows)], ignore_index=True).astype(trials.dtypes.to_dict())


def test_a_map_trained_once_is_its_trial() -> None:
    trials = table((0.5, 10), (0.7, 20), (0.6, 30), states=["COMPLETE", "COMPLETE", "FAIL"])
    found = maps_table(trials)
    assert found["number"].tolist() == [0, 1]
    assert found["score"].tolist() == [0.5, 0.7]
    assert found["seeds"].tolist() == [1, 1]
    assert found["score_se"].tolist() == found["se_examples"].tolist() == [0.01, 0.01]
    assert found["se_seeds"].isna().all()


def test_a_recipe_makes_another_candidate_of_the_same_ranks() -> None:
    assert maps((0.5, 10), (0.9, 5), kinds=["search", "baseline:svd"])["number"].tolist() == [0, 1]


def test_what_a_round_adds_to_all_scores_is_taken_out() -> None:
    """Round 1 is 0.1 better for everybody: the mean of a repeated map stays on the level of round 0."""
    trials = with_repeats(table((0.50, 10), (0.60, 20), (0.70, 30)), (1, 1, 0.70), (2, 1, 0.80))
    found = maps_table(trials)
    assert found["score"].tolist() == pytest.approx([0.5, 0.6, 0.7])
    assert found["seeds"].tolist() == [1, 2, 2]
    assert found["trials"].tolist() == [[0], [1, 3], [2, 4]]
    assert found["seconds"].tolist() == [1, 2, 2]


def test_noise_is_pooled_over_repeats_and_lent_to_maps_without() -> None:
    trials = with_repeats(table((0.50, 10), (0.60, 20), (0.70, 30)), (1, 1, 0.72), (2, 1, 0.80))
    found = maps_table(trials).set_index("number")
    # Differences of the two repeated maps are 0.12 and 0.10: residuals of ±0.005 each, with one degree of freedom.
    sigma = math.sqrt(4 * 0.005**2)
    assert found.loc[0, "se_seeds"] == pytest.approx(sigma)
    assert found.loc[1, "se_seeds"] < sigma
    assert found.loc[1, "score_se"] == pytest.approx(math.hypot(0.01, found.loc[1, "se_seeds"]))


def test_front_is_certain_without_noise_and_open_between_equals() -> None:
    sure = maps((0.5, 10), (0.4, 20), (0.7, 30), se=0.0)
    assert sure["front_probability"].tolist() == [1, 0, 1]
    open_ = maps((0.5, 10), (0.5, 20), se=0.05)
    assert open_["front_probability"].tolist() == [1, pytest.approx(0.5, abs=0.05)]


def test_examples_are_drawn_for_all_maps_together() -> None:
    """The larger map is better by a hair on every example: sure by pairs, a coin's toss by separate errors."""
    trials = table((0.500, 10), (0.501, 20), se=0.05)
    base = np.random.default_rng(0).uniform(0, 1, 100)
    paired = maps_table(trials, lambda number: (base + 0.001 * number).tolist())
    assert paired["front_probability"].tolist() == [1, 1]
    apart = maps_table(trials)
    assert apart["front_probability"][1] == pytest.approx(0.5, abs=0.05)


def test_noise_of_trainings_makes_the_front_less_certain() -> None:
    values = [0.5] * 50
    once = table((0.50, 10), (0.51, 20), (0.3, 5), (0.3, 6), se=0.0)
    assert maps_table(once, lambda _: values)["front_probability"][1] == 1
    noisy = with_repeats(once, (2, 1, 0.32), (3, 1, 0.28))
    assert 0.5 < maps_table(noisy, lambda _: values)["front_probability"][1] < 1


def test_a_map_of_equal_price_and_lower_score_does_not_stand_on_the_front() -> None:
    assert maps((0.5, 10), (0.6, 10), se=0.0)["front_probability"].tolist() == [0, 1]


@pytest.mark.slow
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9)), min_size=1, max_size=12, unique=True))
def test_without_noise_the_front_is_what_is_likely(points) -> None:
    found = maps(*points, se=0.0)
    likely = found[found["front_probability"] == 1]["number"]
    # Of maps equal in both, the front names the first.
    assert {*front(found)["number"]} == {*likely}


def test_probabilities_are_told_for_every_training() -> None:
    trials = with_repeats(table((0.5, 10), (0.6, 20)), (0, 1, 0.5), (1, 1, 0.6))
    found = probabilities(maps_table(trials))
    assert found.keys() == {0, 1, 2, 3}
    assert found[1] == found[3]


def test_history_ends_at_the_hypervolume_of_the_means() -> None:
    trials = with_repeats(table((0.5, 10), (0.6, 20)), (0, 1, 0.9), (1, 1, 0.8))
    history = hypervolume_history(trials, (0.1, 50))
    assert history[:2] == [pytest.approx(0.4 * 40), pytest.approx(0.4 * 40 + 0.1 * 30)]
    assert history[-1] == pytest.approx(hypervolume(maps_table(trials), (0.1, 50)))


def test_trainings_of_one_candidate_are_one_map() -> None:
    trials = table((0.5, 10), (0.6, 10))
    assert len(maps_table(trials)) == 2
    assert len(maps_table(trials.assign(candidate="same", batch_order=[0, 1]))) == 1
