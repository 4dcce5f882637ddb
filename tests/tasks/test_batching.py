import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rank_search.config import TrainingConfig
from rank_search.core.errors import InputError
from rank_search.tasks.batching import (
    by_length,
    check_batch_size,
    in_batches,
    model_inputs,
    padded,
    repeat_copies,
    split_copies,
    tokenise,
    training_indices,
)
from tests.tasks.conftest import tokenizer

lengths = st.lists(st.integers(1, 50), min_size=1, max_size=80)


def test_batch_size_must_not_exceed_the_data() -> None:
    check_batch_size(TrainingConfig(batch_size=8), 8)
    with pytest.raises(InputError, match=r"training\.batch_size: 8 is more than the 7 training examples; lower it"):
        check_batch_size(TrainingConfig(batch_size=8), 7)


def test_long_texts_are_truncated_with_their_special_tokens() -> None:
    made = tokenizer()
    ids, truncated = tokenise(made, ["a b c d e f", "a b"], limit=5)
    assert truncated == 1
    assert made.convert_ids_to_tokens(ids[0]) == ["[CLS]", "a", "b", "c", "[SEP]"]
    assert made.convert_ids_to_tokens(ids[1]) == ["[CLS]", "a", "b", "[SEP]"]


@given(lengths, st.integers(1, 8), st.integers(0, 3))
def test_each_epoch_uses_every_example_at_most_once(lengths, size, seed) -> None:
    size = min(size, len(lengths))
    per_epoch = len(lengths) // size
    batches = list(training_indices(lengths, size, 2 * per_epoch, seed))
    assert [len(batch) for batch in batches] == [size] * len(batches)
    for epoch in (batches[:per_epoch], batches[per_epoch : 2 * per_epoch]):
        used = [index for batch in epoch for index in batch]
        assert len(set(used)) == len(used)
        assert set(used) <= set(range(len(lengths)))


@given(lengths, st.integers(1, 8), st.integers(0, 40), st.integers(0, 3))
def test_batches_depend_only_on_the_seed_and_fewer_steps_are_a_prefix(lengths, size, steps, seed) -> None:
    size = min(size, len(lengths))
    batches = list(training_indices(lengths, size, steps, seed))
    assert len(batches) == steps
    assert list(training_indices(lengths, size, steps + 5, seed))[:steps] == batches


def test_batches_hold_similar_lengths_in_random_order() -> None:
    lengths = [i % 100 for i in range(4000)]
    batches = list(training_indices(lengths, 10, 400, 0))
    spread = [max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in batches]
    assert sum(spread) / len(spread) < 8  # a random batch spreads over about 80
    firsts = [lengths[batch[0]] for batch in batches]
    assert firsts != sorted(firsts)
    other_epoch = list(training_indices(lengths, 10, 800, 0))[400:]
    assert {frozenset(batch) for batch in batches}.isdisjoint(frozenset(batch) for batch in other_epoch)


@given(lengths, st.integers(1, 8))
def test_all_indices_come_once_the_shortest_first(lengths, size) -> None:
    batches = by_length(lengths, size)
    order = [index for batch in batches for index in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[index] for index in order] == sorted(lengths)
    assert all(len(batch) == size for batch in batches[:-1])


@given(lengths, st.integers(1, 12), st.integers(1, 4))
def test_results_are_in_the_order_of_the_examples(lengths, size, copies) -> None:
    sizes = []

    def compute(batch: list[int]) -> list[int]:
        sizes.append(len(batch))
        return [1000 * index + lengths[index] for index in batch]

    results = in_batches(lengths, size, compute, copies)
    assert results == [1000 * index + length for index, length in enumerate(lengths)]
    assert max(sizes) <= max(1, size // copies)


def test_padding_on_either_side() -> None:
    assert padded([[1, 2, 3], [4]], 0).tolist() == [[1, 2, 3], [4, 0, 0]]
    assert padded([[1, 2, 3], [4]], 9, left=True).tolist() == [[1, 2, 3], [9, 9, 4]]


def test_attention_mask_marks_the_texts_even_where_they_hold_the_pad_token() -> None:
    right = model_inputs([[7, 0], [5]], 0, torch.device("cpu"))
    assert right["attention_mask"].tolist() == [[1, 1], [1, 0]]
    left = model_inputs([[7, 0], [5]], 0, torch.device("cpu"), left=True)
    assert left["input_ids"].tolist() == [[7, 0], [0, 5]]
    assert left["attention_mask"].tolist() == [[1, 1], [0, 1]]


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_splitting_undoes_repeating(copies, rows, width) -> None:
    batch = torch.arange(rows * width).view(rows, width)
    repeated = repeat_copies({"x": batch, "mask": batch[:, 0]}, copies)
    assert repeated["x"].shape == (copies * rows, width)
    assert repeated["mask"].shape == (copies * rows,)
    assert torch.equal(split_copies(repeated["x"], copies), batch.expand(copies, rows, width))
