import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rank_search.core.evaluation import Evaluation
from rank_search.tasks.base import BatchShape, examples_to_show


def test_batch_shape_is_read_from_the_token_ids() -> None:
    inputs = {"input_ids": torch.zeros(3, 7, dtype=torch.long), "attention_mask": torch.ones(3, 7)}
    assert BatchShape.from_inputs(inputs) == BatchShape(rows=3, length=7, predicted=0)
    assert BatchShape.from_inputs(inputs, predicted=2) == BatchShape(3, 7, 2)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20))
def test_examples_are_the_largest_gain_the_median_and_the_largest_loss(pairs) -> None:
    before, after = ([float(pair[side]) for pair in pairs] for side in (0, 1))
    shown = examples_to_show(Evaluation("f1", {"f1": before}), Evaluation("f1", {"f1": after}))
    gains = [new - old for old, new in pairs]
    expected = (max(gains), sorted(gains)[len(gains) // 2], min(gains))
    assert [gains[position] for _, position in shown] == pytest.approx(expected)
    names = ("largest gain", "median", "largest loss")
    assert [title for title, _ in shown] == [
        f"{name}: f1 {gain:+.3f}" for name, gain in zip(names, expected, strict=True)
    ]


@pytest.mark.parametrize("name", ["classification", "generation", "rag", "small_task"])
def test_tasks_have_every_member_of_the_interface(name, request) -> None:
    from rank_search.tasks.base import Task

    task = request.getfixturevalue(name)
    members = [member for member in vars(Task) if not member.startswith("_")]
    assert len(members) > 10
    assert all(hasattr(task, member) for member in members)


@pytest.mark.parametrize("name", ["classification", "generation", "rag", "small_task"])
def test_batch_shapes_are_those_of_the_models_inputs(name, request) -> None:
    task = request.getfixturevalue(name)
    batch = next(iter(task.training_batches(1, 0)))
    seen = []

    def note(_module, _arguments, inputs) -> None:
        seen.append(inputs["input_ids"])

    models = task.backbone.values() if name == "rag" else [task.backbone]
    handles = [model.register_forward_pre_hook(note, with_kwargs=True) for model in models]
    task.loss(batch)
    for handle in handles:
        handle.remove()
    shapes = [shape for of_model in task.batch_shapes(batch).values() for shape in of_model]
    assert sorted((shape.rows, shape.length) for shape in shapes) == sorted(tuple(ids.shape) for ids in seen)
