import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rank_search.config import TrainingConfig
from rank_search.errors import InputError
from rank_search.tasks.augmentation import augment_texts, drop_words, load_augmentation
from rank_search.tasks.generation import GenerationTask
from rank_search.tasks.rag import RagTask
from tests.tasks.conftest import ANSWERED, TRAINING, generator


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


def test_function_of_the_users_is_found_beside_the_study(tmp_path, monkeypatch) -> None:
    (tmp_path / "mine_augment.py").write_text(
        "def shout(text, draw):\n    return text.upper()\n\nBROKEN = lambda t, d: 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nowhere"])
    shout = load_augmentation(training("mine_augment:shout"))
    assert augment_texts(shout, ["a", "b"], 0, 0) == ["A", "B"]
    with pytest.raises(InputError, match=r"training\.augmentation: 'mine_augment:shuot': .*; name a function"):
        load_augmentation(training("mine_augment:shuot"))
    with pytest.raises(TypeError, match="returned something else than a text"):
        augment_texts(load_augmentation(training("mine_augment:BROKEN")), ["a"], 0, 0)
    with pytest.raises(InputError, match="No module named 'absent_module'"):
        load_augmentation(training("absent_module:shout"))


def test_draws_hang_on_seed_and_batch_alone() -> None:
    augment = load_augmentation(training("token-dropout", token_dropout=0.5))
    texts = [" ".join("abcdefghij")] * 3
    one = augment_texts(augment, texts, 1, 0)
    assert one == augment_texts(augment, texts, 1, 0)
    assert one != augment_texts(augment, texts, 1, 1)
    assert one != augment_texts(augment, texts, 2, 0)


@pytest.mark.parametrize("name", ["classification", "generation", "rag", "retrieval"])
def test_augmented_batches_hold_the_same_examples_in_the_same_order(name, request, small_task) -> None:
    task = small_task if name == "retrieval" else request.getfixturevalue(name)
    task._augment = load_augmentation(training("token-dropout", token_dropout=0.6))
    plain = list(task.training_batches(5, 3))
    changed = list(task.training_batches(5, 3, augmented=True))
    again = list(task.training_batches(5, 3, augmented=True))
    try:
        for one, other, same in zip(plain, changed, again, strict=True):
            labels = {"classification": "labels", "generation": "labels"}.get(name)
            if name == "rag":
                assert torch.equal(one.documents["input_ids"], other.documents["input_ids"])
            elif labels == "labels" and name == "classification":
                assert torch.equal(one.labels, other.labels)
            first = {"classification": "inputs", "generation": "inputs"}.get(name, "queries")
            assert torch.equal(getattr(other, first)["input_ids"], getattr(same, first)["input_ids"])
        first = {"classification": "inputs", "generation": "inputs"}.get(name, "queries")
        assert any(
            getattr(one, first)["input_ids"].shape != getattr(other, first)["input_ids"].shape
            for one, other in zip(plain, changed, strict=True)
        )
    finally:
        task._augment = None


def test_answers_are_never_augmented(generation) -> None:
    assert isinstance(generation, GenerationTask)
    generation._augment = lambda text, draw: "gone"
    for plain, changed in zip(
        generation.training_batches(4, 0), generation.training_batches(4, 0, augmented=True), strict=True
    ):
        for one, other in zip(plain.labels, changed.labels, strict=True):
            assert torch.equal(one[one >= 0], other[other >= 0])


def test_names_stay_importable() -> None:
    assert RagTask.__name__
    assert ANSWERED.train
    assert TRAINING.steps
    assert generator
