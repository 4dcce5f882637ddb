import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rank_search.config import TrainingConfig
from rank_search.core.errors import InputError
from rank_search.tasks.augmentation import augment_texts, drop_words, load_augmentation


def training(augmentation: str, **settings) -> TrainingConfig:
    return TrainingConfig(augmentation=augmentation, **settings)


@given(st.text(), st.floats(0, 0.99), st.randoms(use_true_random=False))
def test_dropping_words_keeps_their_order_and_leaves_something(text, probability, draw) -> None:
    kept = drop_words(probability, text, draw).split()
    words = iter(text.split())
    assert all(word in words for word in kept)
    assert bool(kept) == bool(text.split())


def test_probability_is_that_of_a_word() -> None:
    text = " ".join(str(i) for i in range(5000))
    assert len(drop_words(0.3, text, random.Random(0)).split()) / 5000 == pytest.approx(0.7, abs=0.03)
    assert drop_words(0.0, "def f():\n    return 1", random.Random(0)) == "def f():\n    return 1"


def test_function_of_the_user_is_found_beside_the_study(tmp_path, monkeypatch) -> None:
    functions = (
        "def shout(text, draw):\n    return text.upper()\n\n"
        "number = lambda text, draw: 3\n"
        "fickle = lambda text, draw: text if 'try' in text else None\n"
        "raises = lambda text: text\n"
        "TEXT = 'no function'\n"
    )
    (tmp_path / "mine_augment.py").write_text(functions)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nowhere"])
    shout = load_augmentation(training("mine_augment:shout"))
    assert augment_texts(shout, ["a", "b"], 0, 0) == ["A", "B"]
    with pytest.raises(InputError, match=r"training\.augmentation: 'mine_augment:shuot': .*; name a function"):
        load_augmentation(training("mine_augment:shuot"))
    with pytest.raises(InputError, match=r"training\.augmentation: 'mine_augment:number' returns int; it must return"):
        load_augmentation(training("mine_augment:number"))
    for name in ("raises", "TEXT"):
        with pytest.raises(InputError, match=f"'mine_augment:{name}': TypeError: .*; name a function"):
            load_augmentation(training(f"mine_augment:{name}"))
    with pytest.raises(TypeError, match="returned something other than a text"):
        augment_texts(load_augmentation(training("mine_augment:fickle")), ["a"], 0, 0)
    (tmp_path / "half_augment.py").write_text("def shout(text, draw:\n")
    with pytest.raises(InputError, match="'half_augment:shout': SyntaxError"):
        load_augmentation(training("half_augment:shout"))
    with pytest.raises(InputError, match="No module named 'absent_module'"):
        load_augmentation(training("absent_module:shout"))


def test_draws_depend_only_on_seed_and_batch() -> None:
    augment = load_augmentation(training("token-dropout", token_dropout=0.5))
    texts = [" ".join("abcdefghij")] * 3
    one = augment_texts(augment, texts, 1, 0)
    assert one == augment_texts(augment, texts, 1, 0)
    assert one != augment_texts(augment, texts, 1, 1)
    assert one != augment_texts(augment, texts, 2, 0)


def inputs_of(batch) -> torch.Tensor:
    """The token ids that augmentation changes."""
    return (batch.inputs if hasattr(batch, "inputs") else batch.queries)["input_ids"]


@pytest.mark.parametrize("name", ["classification", "generation", "rag", "retrieval"])
def test_augmented_batches_hold_the_same_examples_in_the_same_order(name, request, small_task, monkeypatch) -> None:
    task = small_task if name == "retrieval" else request.getfixturevalue(name)
    monkeypatch.setattr(task, "_augment", lambda text, draw: f"{text} indeed")
    for plain, changed in zip(task.training_batches(5, 3), task.training_batches(5, 3, augmented=True), strict=True):
        one, other = inputs_of(plain), inputs_of(changed)
        assert other.shape == (len(one), one.shape[1] + 1)
        if name == "classification":
            assert torch.equal(plain.labels, changed.labels)
        if name == "rag":
            assert torch.equal(plain.documents["input_ids"], changed.documents["input_ids"])


def test_answers_are_never_augmented(generation) -> None:
    generation._augment = lambda text, draw: "gone"
    for plain, changed in zip(
        generation.training_batches(4, 0), generation.training_batches(4, 0, augmented=True), strict=True
    ):
        for one, other in zip(plain.labels, changed.labels, strict=True):
            assert torch.equal(one[one >= 0], other[other >= 0])
