"""Sentence embedders: the transformer and the modules after it, such as pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from rank_search.core.errors import InputError
from rank_search.core.extras import require_extra
from rank_search.models.load import check_weights_present, explain_load_errors, max_length, weight_arguments
from rank_search.models.source import fingerprint, locate

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from rank_search.config import ModelSource


class SentenceEncoder(nn.Module):
    """A transformer and the modules that the model's files put after it: pooling, maybe a projection or a norm."""

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
    """Saves a sentence embedder with a changed transformer, in the format of sentence-transformers.

    Args:
        config: source of the original embedder; pooling, normalisation and prompts come from it.
        backbone: the changed transformer.
        folder: an empty folder.

    Raises:
        InputError: the model can't be found or loaded.
    """
    require_extra("retrieval", "a sentence embedder")
    from sentence_transformers import SentenceTransformer

    with explain_load_errors(config):
        model: Any = SentenceTransformer(
            locate(config).path_or_id,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
            device="cpu",
        )
    model[0].model = backbone
    model.save_pretrained(str(folder), create_model_card=False)


@dataclass(frozen=True)
class Retriever:
    """A sentence encoder with its tokenizer, and the prompts that its files put before queries and documents."""

    encoder: SentenceEncoder
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    query_prompt: str
    document_prompt: str
    fingerprint: str


def load_retriever(config: ModelSource, device: torch.device) -> Retriever:
    """Loads a sentence embedder with the pooling, normalisation and prompts that its files describe.

    The base model is frozen and in evaluation mode, so that its dropout adds no noise to training.

    Raises:
        InputError: the model can't be found or loaded.
    """
    require_extra("retrieval", "a sentence embedder")
    from sentence_transformers import SentenceTransformer

    located = locate(config)
    if located.gguf_file:
        raise InputError(
            f"{config.source!r}: sentence-transformers can't load a GGUF file; name the original embedder",
            field="model.source",
        )
    with explain_load_errors(config):
        model: Any = SentenceTransformer(
            located.path_or_id,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
            device=str(device),
            model_kwargs=weight_arguments(config, device),
        )
        transformer, *head = model
        # sentence-transformers does not report missing weights, so transformers is asked, on the meta device.
        _, report = type(transformer.model).from_pretrained(
            located.path_or_id,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
            device_map="meta",
            output_loading_info=True,
        )
    check_weights_present(config, report["missing_keys"])
    # Pooled vectors are float32 for every type of the transformer, so the modules after it are float32 too.
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
