"""What maps scored example by example, in pairs."""

import numpy as np
import pytest

from rank_search.analysis.scores import ExampleScores
from tests.analysis.conftest import TRIALS, example_scores

VALUES = {
    0: [0.1, 0.3, 0.5, 0.7],
    1: [0.2, 0.4, 0.6, 0.8],
    2: [0.0, 0.2, 0.4, 0.6],
    3: [0.3, 0.3, 0.5, 0.9],
    4: [0.5, 0.5],
    5: [],
}
# Map 0 was trained on orders 0 and 1, map 2 on 0 and 1, map 4 on other examples, and map 5 is not on record.
SCORES = ExampleScores({0: {0: 0, 1: 1}, 2: {0: 2, 1: 3}, 4: {0: 4}, 5: {0: 5}}, VALUES.__getitem__)


def test_pairs_are_of_the_same_seed_and_example() -> None:
    assert SCORES.pairs(0, 2) == pytest.approx(np.array([[0.1, 0.1, 0.1, 0.1], [-0.1, 0.1, 0.1, -0.1]]))
    assert SCORES.difference(0, 2).delta == pytest.approx(0.05)
    assert SCORES.difference(0, 2).seeds == 2


@pytest.mark.parametrize("other", [4, 5, 99])
def test_what_has_no_pair_has_no_difference(other) -> None:
    assert SCORES.difference(0, other) is None
    assert SCORES.difference(other, 0) is None


def test_only_common_seeds_count() -> None:
    once = ExampleScores({0: {0: 0, 1: 1}, 2: {1: 3}}, VALUES.__getitem__)
    assert once.difference(0, 2).delta == pytest.approx(0.0)
    assert once.difference(0, 2).seeds == 1


def test_halves_hold_every_example_once() -> None:
    first, second = SCORES.halves()
    assert first.of_trial(0).tolist() == [0.1, 0.5]
    assert second.of_trial(0).tolist() == [0.3, 0.7]
    assert (first.difference(0, 2).delta + second.difference(0, 2).delta) / 2 == pytest.approx(0.05)


def test_means_are_those_of_the_maps_on_record() -> None:
    means = example_scores(TRIALS).means()
    expected = dict(zip(TRIALS["number"], TRIALS["score"], strict=True))
    assert means == pytest.approx(expected)
    assert 5 not in SCORES.means()


def test_noise_of_seeds_comes_from_the_maps_that_were_trained_twice() -> None:
    assert SCORES.noise is not None
    assert SCORES.noise.freedom == 1  # two maps on two orders
    assert ExampleScores({0: {0: 0}, 2: {0: 2}}, VALUES.__getitem__).noise is None


def test_noise_that_seeds_have_is_found() -> None:
    draw = np.random.default_rng(0)
    easy, values, trainings = draw.normal(0, 0.3, 300), {}, {}
    for number in range(12):
        trainings[number] = {order: 10 * number + order for order in range(4)}
        for order in range(4):
            values[10 * number + order] = (easy + 0.02 * draw.normal() + draw.normal(0, 0.05, 300)).tolist()
    noise = ExampleScores(trainings, values.__getitem__).noise
    assert noise.freedom == 33
    assert noise.variance**0.5 == pytest.approx(0.02 * 2**0.5, rel=0.25)
