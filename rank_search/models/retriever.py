"""Sentence embedders: the transformer, and what its own files put after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from rank_search.core.errors import InputError
from rank_search.models.load import explained, max_length, refuse_missing, weight_arguments
from rank_search.models.source import fingerprint, locate

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from rank_search.config import ModelSource


class SentenceEncoder(nn.Module):
    """A transformer and what its own files put after it: pooling, and perhaps a projection or a norm."""

    def __init__(self, backbone: PreTrainedModel, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Embeds a batch.

        Args:
            features: ``input_ids`` and ``attention_mask``, both ``[batch, length]``.

        Returns:
            ``[batch, dimension]`` in float32.
        """
        hidden = self.backbone(**features).last_hidden_state.float()
        pooled = self.head({"token_embeddings": hidden, "attention_mask": features["attention_mask"]})
        embedding: Tensor = pooled["sentence_embedding"]
        return embedding


def save_retriever(config: ModelSource, backbone: PreTrainedModel, folder: Path) -> None:
    """Writes a sentence embedder with other weights in its transformer, as sentence-transformers loads it.

    Args:
        config: whose pooling, normalisation and prompts it has.
        backbone: the transformer.
        folder: an empty folder.

    Raises:
        InputError: the model can't be found or loaded.
    """
    from sentence_transformers import SentenceTransformer

    with explained(config):
        model: Any = SentenceTransformer(
            locate(config).place,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
            device="cpu",
        )
    model[0].model = backbone
    model.save_pretrained(str(folder), create_model_card=False)


@dataclass(frozen=True)
class Retriever:
    """A sentence encoder with its tokenizer, and the prefixes that its files ask for."""

    encoder: SentenceEncoder
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    query_prompt: str
    document_prompt: str
    fingerprint: str


def load_retriever(config: ModelSource, device: torch.device) -> Retriever:
    """Loads a sentence embedder, with pooling, normalisation and prompts as its own files say.

    The base is frozen and in evaluation mode: its own dropout stays off, so that the noise between two
    adapters is theirs alone.

    Raises:
        InputError: the model can't be found or loaded.
    """
    from sentence_transformers import SentenceTransformer

    located = locate(config)
    if located.gguf_file:
        raise InputError(
            f"{config.source!r}: sentence-transformers loads no GGUF file; name the original embedder",
            field="model.source",
        )
    with explained(config):
        model: Any = SentenceTransformer(
            located.place,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
            device=str(device),
            model_kwargs=weight_arguments(config, device),
        )
        transformer, *head = model
        # sentence-transformers keeps to itself what the source lacks, so it is asked for without loading the weights.
        _, report = type(transformer.model).from_pretrained(
            located.place,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
            device_map="meta",
            output_loading_info=True,
        )
    refuse_missing(config, report["missing_keys"])
    # Pooled vectors are float32, whatever type the transformer is held in; so is what comes after it.
    encoder = SentenceEncoder(transformer.model, nn.Sequential(*head).float())
    encoder.requires_grad_(False).eval()
    prompts = model.prompts or {}
    return Retriever(
        encoder=encoder,
        tokenizer=model.tokenizer,
        max_length=model.max_seq_length or max_length(transformer.model, model.tokenizer),
        query_prompt=prompts.get("query", ""),
        document_prompt=prompts.get("document", prompts.get("passage", "")),
        fingerprint=fingerprint(located, config),
    )
