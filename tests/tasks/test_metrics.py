"""Metrics against definitions, properties and independent libraries."""

import math
import warnings

import pytest
import pytrec_eval
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, matthews_corrcoef

from rank_search.tasks.metrics import macro_f1, matthews_correlation, ndcg, recall, reciprocal_rank

GAINS = st.lists(st.integers(0, 3), min_size=1, max_size=30).filter(any)
DEPTHS = st.integers(1, 12)


@st.composite
def classified(draw) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Predicted classes, right ones, and the number of classes."""
    classes, count = draw(st.integers(2, 5)), draw(st.integers(1, 30))
    numbers = st.lists(st.integers(0, classes - 1), min_size=count, max_size=count)
    return torch.tensor(draw(numbers)), torch.tensor(draw(numbers)), classes


def test_values_worked_out_by_hand() -> None:
    gains = [0, 3, 0, 1]
    dcg, ideal = 3 / math.log2(3) + 1 / math.log2(5), 3 + 1 / math.log2(3)
    assert ndcg(gains, 10) == pytest.approx(dcg / ideal)
    assert ndcg(gains, 2) == pytest.approx(3 / math.log2(3) / ideal)
    assert reciprocal_rank(gains, 10) == 1 / 2
    assert reciprocal_rank(gains, 1) == 0
    assert [recall(gains, depth) for depth in (1, 2, 4)] == [0, 1 / 2, 1]


@settings(max_examples=60)
@given(GAINS, DEPTHS)
def test_ranking_metrics_are_trec_evals(gains, depth) -> None:
    judged = pytrec_eval.RelevanceEvaluator(
        {"q": {f"d{place}": gain for place, gain in enumerate(gains)}},
        {f"ndcg_cut.{depth}", f"recall.{depth}", "recip_rank"},
    )
    run = {f"d{place}": float(-place) for place in range(len(gains))}
    whole = judged.evaluate({"q": run})["q"]
    first = judged.evaluate({"q": dict(list(run.items())[:depth])})["q"]  # its reciprocal rank knows no depth
    assert ndcg(gains, depth) == pytest.approx(whole[f"ndcg_cut_{depth}"], abs=1e-9)
    assert recall(gains, depth) == pytest.approx(whole[f"recall_{depth}"], abs=1e-9)
    assert reciprocal_rank(gains, depth) == pytest.approx(first["recip_rank"], abs=1e-9)


@given(GAINS, DEPTHS)
def test_ranking_metrics_lie_between_0_and_1_and_the_best_order_has_ndcg_1(gains, depth) -> None:
    for metric in (ndcg, reciprocal_rank, recall):
        assert 0 <= metric(gains, depth) <= 1 + 1e-12
    best = sorted(gains, reverse=True)
    assert ndcg(best, depth) == pytest.approx(1)
    assert reciprocal_rank(best, depth) == 1
    assert recall(gains, len(gains)) == 1


@given(GAINS, DEPTHS, st.data())
def test_a_more_relevant_document_that_moves_up_never_costs(gains, depth, data) -> None:
    place = data.draw(st.integers(0, len(gains) - 1))
    above = data.draw(st.integers(0, place))
    swapped = list(gains)
    if gains[place] > gains[above]:
        swapped[place], swapped[above] = gains[above], gains[place]
    for metric in (ndcg, reciprocal_rank, recall):
        assert metric(swapped, depth) >= metric(gains, depth) - 1e-12


@given(GAINS, DEPTHS, st.integers(0, 20))
def test_irrelevant_documents_below_the_depth_change_nothing(gains, depth, more) -> None:
    below = [gain for gain in gains[depth:] if gain]
    for metric in (ndcg, reciprocal_rank, recall):
        assert metric([*gains[:depth], *below], depth) == metric([*gains, *[0] * more], depth)


@given(classified())
def test_class_metrics_are_scikit_learns(drawn) -> None:
    predicted, labels, classes = drawn
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns where there is a single class
        expected = f1_score(labels, predicted, average="macro")
        assert macro_f1(predicted, labels, classes) == pytest.approx(expected, abs=1e-9)
        expected = matthews_corrcoef(labels, predicted)
    assert matthews_correlation(predicted, labels, classes) == pytest.approx(expected, abs=1e-9)


@given(classified(), st.data())
def test_class_metrics_ask_neither_for_the_order_of_examples_nor_for_the_numbers_of_classes(drawn, data) -> None:
    predicted, labels, classes = drawn
    order = torch.tensor(data.draw(st.permutations(range(len(labels)))))
    names = torch.tensor(data.draw(st.permutations(range(classes))))
    for metric in (macro_f1, matthews_correlation):
        changed = metric(names[predicted][order], names[labels][order], classes)
        assert changed == pytest.approx(metric(predicted, labels, classes), abs=1e-9)


@given(classified())
def test_right_predictions_have_the_best_value(drawn) -> None:
    _, labels, classes = drawn
    assert macro_f1(labels, labels, classes) == 1
    several = len(labels.unique()) > 1
    assert matthews_correlation(labels, labels, classes) == pytest.approx(1 if several else 0)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_constant_prediction_has_no_correlation(classes) -> None:
    labels = torch.tensor([0, 1, 0, 1, 1, 0, 0, 0])
    assert matthews_correlation(torch.zeros(8, dtype=torch.int64), labels, classes) == 0
