"""Small random models, and a small task that they can learn."""

from __future__ import annotations

import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from rank_search.adapters import Pack
from rank_search.config import RetrievalConfig, TrainingConfig
from rank_search.data.searchable import SearchData, SearchSplit
from rank_search.tasks.retrieval import RetrievalTask
from rank_search.training.trainer import fine_tune
from tests.bench import study_config
from tests.embedders import small_retriever
from tests.jobs import job_for

SMALL_MODELS = {
    "bert": (BertConfig, BertForSequenceClassification),
    "llama": (LlamaConfig, LlamaForCausalLM),
    "gpt2": (GPT2Config, GPT2LMHeadModel),
}


def small_model(architecture: str) -> nn.Module:
    """A random model of two layers with its head; its linear layers are of several shapes."""
    torch.manual_seed(0)
    config, model = SMALL_MODELS[architecture]
    # GPT-2's config takes these names too, but for the feed-forward size, which is four times the hidden one.
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    return model(config(vocab_size=64, pad_token_id=0, bos_token_id=1, eos_token_id=2, **sizes)).eval()


def filled(pack: Pack, std: float = 1.0) -> None:
    """Gives every B of a pack values other than zero."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in pack._modules.values():
            module.B.copy_(std * torch.randn(module.B.shape, generator=draw))


def train(task, rank_map, **training):
    """Trains one map alone."""
    settings = {"steps": 3, "batch_size": 4, "precision": "float32", "learning_rate": 1e-2, **training}
    (outcome,) = fine_tune(task, [job_for(rank_map, 0, 0)], study_config(training=settings), sources={})
    return outcome


VOCABULARY = [f"{first}{second}" for first in "bcdfghjklm" for second in ("ar", "en", "ig", "op", "ub")]


def words(count: int, start: int) -> SearchSplit:
    """Pairs that a random model can learn: query and document share a word that no other pair has."""
    numbers = range(start, start + count)
    return SearchSplit(
        queries=tuple(f"find the {VOCABULARY[i % 50]} {i}" for i in numbers),
        documents=tuple(f"def {VOCABULARY[i % 50]}{i}(): return {i}" for i in numbers),
        relevant=tuple({i: 1} for i in range(count)),
    )


def retrieval_task() -> RetrievalTask:
    """Retrieval on a random two-layer BERT, with the embedded model's tokenizer."""
    data = SearchData(words(40, 0), words(20, 50), words(20, 80))
    config = study_config()
    settings = RetrievalConfig(kind="retrieval")
    return RetrievalTask(settings, TrainingConfig(**config.training.model_dump()), data, small_retriever())
