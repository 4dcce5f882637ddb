"""Small random models that answer and classify, with the embedded model's tokenizer."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
)

from rank_search.config import ClassificationConfig, GenerationConfig, RagConfig, TrainingConfig
from rank_search.data.answered import AnsweredQuestion
from rank_search.data.labelled import LabelledText
from rank_search.data.splits import Splits
from rank_search.models.load import LoadedModel
from rank_search.tasks.classification import ClassificationTask
from rank_search.tasks.generation import GenerationTask
from rank_search.tasks.rag import RagTask
from tests.embedders import SIZES, embedded_tokenizer, small_retriever
from tests.small_models import VOCABULARY

TRAINING = TrainingConfig(steps=3, batch_size=4, eval_batch_size=4, precision="float32", learning_rate=1e-2)


def tokenizer():
    made = embedded_tokenizer()
    made.eos_token = made.sep_token
    return made


def generator(seed: int = 0) -> LoadedModel:
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=30522, pad_token_id=0, bos_token_id=101, eos_token_id=102, **SIZES)
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    return LoadedModel(model, tokenizer(), 256, "sha256:generator", frozenset())


def answered(count: int, start: int) -> tuple[AnsweredQuestion, ...]:
    """Questions about a word, answered by the number that its passage gives."""
    words = [(VOCABULARY[i % 50], i) for i in range(start, start + count)]
    return tuple(
        AnsweredQuestion(f"what is {word} {i}?", (f"number {i}", str(i)), f"{word} {i} is number {i}, they say")
        for word, i in words
    )


ANSWERED = Splits(answered(24, 0), answered(9, 30), answered(7, 40))


@pytest.fixture
def generation() -> GenerationTask:
    settings = GenerationConfig(kind="generation", data="x", metric="f1", max_new_tokens=5)
    return GenerationTask(settings, TRAINING, ANSWERED, generator(), None)


@pytest.fixture
def rag() -> RagTask:
    settings = RagConfig(kind="rag", data="x", retriever={"source": "x"}, max_new_tokens=5, passages=3)
    return RagTask(settings, TRAINING, ANSWERED, small_retriever(), generator())


def labelled(count: int, start: int) -> tuple[LabelledText, ...]:
    return tuple(
        LabelledText(f"{VOCABULARY[i % 3]} {VOCABULARY[i % 7]}", "abc"[i % 3]) for i in range(start, start + count)
    )


def classifier(classes: int = 3, missing: frozenset[str] = frozenset()) -> LoadedModel:
    torch.manual_seed(0)
    model = (
        BertForSequenceClassification(BertConfig(num_labels=classes, initializer_range=0.3, **SIZES))
        .eval()
        .requires_grad_(False)
    )
    return LoadedModel(model, tokenizer(), 64, "sha256:classifier", missing)


@pytest.fixture
def classification() -> ClassificationTask:
    data = Splits(labelled(40, 0), labelled(12, 50), labelled(12, 70))
    return ClassificationTask(ClassificationConfig(kind="classification", data="x"), TRAINING, data, classifier())
