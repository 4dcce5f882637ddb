"""The families: each a tiny random model in a folder, with the embedded model's tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers import AutoTokenizer

from rank_search.config import ModelConfig
from rank_search.models.source import locate
from tests.bench import EMBEDDED

if TYPE_CHECKING:
    from pathlib import Path

_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
_GROUPED = {**_SIZES, "num_key_value_heads": 2}  # as most decoders now: fewer heads of keys than of queries
_WIDE = {**_GROUPED, "head_dim": 16}  # heads wider together than the hidden state


@dataclass(frozen=True)
class Family:
    """A family of models, and what a study does with it.

    Attributes:
        name: in tests and tables.
        kind: the task.
        prefix: of the names of its classes in transformers.
        settings: of its configuration.
        suffix: of the class whose weights are saved.
        pack: maps that are trained at once; some models do not keep several apart.
    """

    name: str
    kind: str
    prefix: str
    settings: dict[str, Any]
    suffix: str
    pack: int = 2

    def write(self, folder: Path) -> None:
        """Writes configuration, weights and tokenizer."""
        tokenizer: Any = AutoTokenizer.from_pretrained(locate(ModelConfig(source=EMBEDDED)).path_or_id)
        tokenizer.eos_token, tokenizer.bos_token = tokenizer.sep_token, tokenizer.cls_token
        marks = {"pad_token_id": 0, "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        labels = {"num_labels": 3} if self.kind == "classification" else {}
        # Of families for images too, the part for texts.
        part = "TextConfig" if hasattr(transformers, f"{self.prefix}TextConfig") else "Config"
        config = getattr(transformers, f"{self.prefix}{part}")
        torch.manual_seed(0)
        settings = {"vocab_size": len(tokenizer), **marks, **labels, **self.settings}
        model = getattr(transformers, f"{self.prefix}{self.suffix}")(config(**settings))
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _classifier(name: str, prefix: str, pack: int = 2, **settings: Any) -> Family:
    return Family(name, "classification", prefix, settings, "ForSequenceClassification", pack)


def _embedder(name: str, prefix: str, suffix: str = "Model", **settings: Any) -> Family:
    return Family(f"{name}-embedder", "retrieval", prefix, settings, suffix)


def _decoder(name: str, prefix: str, suffix: str = "ForCausalLM", pack: int = 2, **settings: Any) -> Family:
    return Family(name, "generation", prefix, settings, suffix, pack)


_ENCODER_DECODER = {"d_model": 32, "d_ff": 48, "num_layers": 2, "num_heads": 4, "d_kv": 8, "decoder_start_token_id": 0}
_BART = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
}
_OFFSET = {**_SIZES, "max_position_embeddings": 130, "type_vocab_size": 1}

FAMILIES = (
    _classifier("bert", "Bert", **_SIZES),
    _classifier("roberta", "Roberta", **_OFFSET),
    _classifier("xlm-roberta", "XLMRoberta", **_OFFSET),
    _classifier("distilbert", "DistilBert", dim=32, n_layers=2, n_heads=4, hidden_dim=48),
    _classifier("mpnet", "MPNet", **{**_SIZES, "max_position_embeddings": 130}),
    _classifier("deberta-v2", "DebertaV2", pack=1, **_SIZES, relative_attention=True, pos_att_type=["p2c", "c2p"]),
    _classifier("electra", "Electra", **_SIZES, embedding_size=16),
    _classifier("albert", "Albert", **_SIZES, embedding_size=16),
    _classifier("modernbert", "ModernBert", **_SIZES, cls_token_id=101, sep_token_id=102),
    _classifier("bart", "Bart", **_BART),
    _classifier("t5", "T5", **_ENCODER_DECODER),
    _classifier("xlnet", "XLNet", pack=1, d_model=32, n_layer=2, n_head=4, d_inner=48),
    _embedder("t5", "T5", **_ENCODER_DECODER),
    _embedder("mpnet", "MPNet", **{**_SIZES, "max_position_embeddings": 130}),
    _embedder("qwen3", "Qwen3", **_WIDE),
    _decoder("gpt2", "GPT2", "LMHeadModel", n_embd=32, n_layer=2, n_head=4),
    _decoder("llama", "Llama", **_GROUPED),
    _decoder("mistral", "Mistral", **_GROUPED),
    _decoder("qwen2", "Qwen2", **_GROUPED),
    _decoder("qwen3", "Qwen3", **_WIDE),
    _decoder("qwen3-moe", "Qwen3Moe", **_WIDE, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16),
    _decoder("mixtral", "Mixtral", **_GROUPED, num_local_experts=4),
    _decoder("gemma", "Gemma", **_WIDE),
    _decoder("gemma2", "Gemma2", **_WIDE, query_pre_attn_scalar=16),
    _decoder("gemma3", "Gemma3", **_WIDE, query_pre_attn_scalar=16),
    _decoder("phi", "Phi", **_SIZES),
    _decoder("opt", "OPT", pack=1, **_SIZES, ffn_dim=48, word_embed_proj_dim=32),
    _decoder("gpt-neox", "GPTNeoX", **_SIZES),
    _decoder("falcon", "Falcon", **_SIZES),
    _decoder("bloom", "Bloom", hidden_size=32, n_layer=2, n_head=4),
    _decoder("mamba", "Mamba", hidden_size=32, num_hidden_layers=2, state_size=4),
    _decoder("stablelm", "StableLm", **_GROUPED),
)
