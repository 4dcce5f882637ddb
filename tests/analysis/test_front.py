import pytest
from hypothesis import given
from hypothesis import strategies as st

from rank_search.analysis.front import front, hypervolume, hypervolume_history, reference_point
from tests.analysis.conftest import table

points = st.lists(st.tuples(st.integers(0, 8).map(lambda n: n / 8), st.integers(0, 9)), min_size=1, max_size=20)


def dominates(one, other) -> bool:
    return one[0] >= other[0] and one[1] <= other[1] and one != other


@given(points)
def test_front_is_what_nothing_dominates(points) -> None:
    found = front(table(*points))
    expected = {point for point in points if not any(dominates(other, point) for other in points)}
    on_front = list(zip(found["score"], found["trainable_parameters"], strict=True))
    assert set(on_front) == expected
    assert len(on_front) == len(expected)
    assert on_front == sorted(on_front, key=lambda point: point[1])


@given(points)
def test_hypervolume_is_the_area_cell_by_cell(points) -> None:
    reference = (0.25, 10.0)
    area = 0.0
    for score in range(2, 8):  # cells of height 1/8 above the reference score
        for parameters in range(10):
            corner = ((score + 1) / 8, parameters)
            area += any(point == corner or dominates(point, corner) for point in points) / 8
    assert hypervolume(table(*points), reference) == pytest.approx(area)


@pytest.mark.slow
@given(points)
def test_history_is_the_hypervolume_after_each_trial(points) -> None:
    trials = table(*points)
    history = hypervolume_history(trials, (0.1, 9.5))
    after = [hypervolume(trials.iloc[:count], (0.1, 9.5)) for count in range(1, len(points) + 1)]
    assert history == pytest.approx(after)
    assert history == sorted(history)


def test_failed_trials_count_for_nothing() -> None:
    trials = table((0.5, 5), (0.9, 1), states=["COMPLETE", "FAIL"])
    assert front(trials)["number"].tolist() == [0]
    assert hypervolume_history(trials, (0, 10)) == [2.5, 2.5]


def test_study_without_scores_has_an_empty_front() -> None:
    trials = table((0.5, 5), states=["FAIL"])
    assert front(trials).empty
    assert hypervolume(trials, (0, 10)) == 0


def test_reference_is_the_untrained_model_where_there_is_one() -> None:
    assert reference_point(table((0.7, 0), (0.8, 5)), 110) == (0.7, pytest.approx(110))
    assert reference_point(table((0.8, 5)), 110) == (0.0, pytest.approx(110))


def test_reference_lies_below_negative_scores() -> None:
    """Log-likelihoods are below 0, so 0 would leave no point above the reference."""
    trials = table((-2.0, 10), (-1.0, 20))
    assert reference_point(trials, 100)[0] == -2.0
    assert hypervolume(trials, reference_point(trials, 100)) > 0
