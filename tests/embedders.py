"""Folders of small random sentence embedders, as sentence-transformers writes them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedModel

from rank_search.config import ModelConfig
from rank_search.models.retriever import Retriever, load_retriever
from rank_search.models.source import locate
from tests.bench import EMBEDDED

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


def embedded_tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(locate(ModelConfig(source=EMBEDDED)).path_or_id)


def write_embedder(
    folder: Path, backbone: PreTrainedModel, tokenizer: Any, *head: nn.Module, max_length: int = 64, **settings: Any
) -> Path:
    """Writes a folder with a backbone, the modules after it, and settings of ``SentenceTransformer``."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer

    with TemporaryDirectory() as base:
        backbone.save_pretrained(base)
        tokenizer.save_pretrained(base)
        transformer = Transformer(base, max_seq_length=max_length)
        model = SentenceTransformer(modules=[transformer, *head], device="cpu", **settings)
        model.save_pretrained(str(folder), create_model_card=False)
    return folder


@cache
def small_retriever(seed: int = 0) -> Retriever:
    """A random two-layer BERT with mean pooling, and the embedded model's tokenizer."""
    from sentence_transformers.sentence_transformer.modules import Pooling

    torch.manual_seed(seed)
    backbone = BertModel(BertConfig(**SIZES))
    with TemporaryDirectory() as folder:
        write_embedder(Path(folder), backbone, embedded_tokenizer(), Pooling(32))
        return load_retriever(ModelConfig(source=folder), torch.device("cpu"))
