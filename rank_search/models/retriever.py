"""Sentence embedders: sentence-transformers prepares the texts and runs the modules after the transformer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from rank_search.core.errors import InputError
from rank_search.core.extras import require_extra
from rank_search.models.load import check_weights_present, explain_load_errors, max_length, weight_arguments
from rank_search.models.source import fingerprint, locate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from rank_search.config import ModelSource
    from rank_search.models.source import ModelLocation

Similarity = Literal["cosine", "dot"]

# Names of the prompts that ``encode_query`` and ``encode_document`` look for; the first that a model has is used.
_PROMPT_NAMES = {"query": ("query",), "document": ("document", "passage", "corpus")}
# Of several lengths, so that padding counts; the vectors of these are compared when a model is loaded.
_COMPARED = ("Which rank does each layer deserve?", "A sum.", "def area(radius): return 3.14159 * radius ** 2")
_TOLERANCES = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.01}  # of unit vectors


@dataclass(frozen=True)
class TextKind:
    """How an embedder takes queries, or documents.

    Attributes:
        task: the kind's name in sentence-transformers.
        prompt: text before each text; with a chat template, the system message.
        prompt_tokens: tokens at the start that belong to the prompt, which some pooling leaves out.
    """

    task: Literal["query", "document"]
    prompt: str
    prompt_tokens: int | None


class SentenceEncoder(nn.Module):
    """The modules of a sentence embedder: a transformer, then pooling, maybe a projection or a norm.

    Args:
        transformer: the first module of a ``SentenceTransformer``.
        head: the modules after it.
        dimension: how many first components of an embedding are kept; None for all.
    """

    def __init__(self, transformer: nn.Module, head: nn.Module, dimension: int | None) -> None:
        super().__init__()
        self.transformer = transformer
        self.head = head
        self._dimension = dimension

    @property
    def backbone(self) -> PreTrainedModel:
        """The transformers model inside."""
        model: Any = self.transformer.model
        return model  # type: ignore[no-any-return]

    def forward(self, inputs: dict[str, Tensor], kind: TextKind) -> Tensor:
        """Embeds a batch.

        Args:
            inputs: ``input_ids`` and ``attention_mask``, both ``[batch, length]``.
            kind: what the texts are.

        Returns:
            ``[batch, dimension]`` in float32.
        """
        # Called here, as sentence-transformers' module calls ``forward`` itself, which runs no hooks.
        hidden = self.backbone(**inputs).last_hidden_state.float()
        features: dict[str, Any] = {"token_embeddings": hidden, "attention_mask": inputs["attention_mask"]}
        if kind.prompt_tokens is not None:
            features["prompt_length"] = kind.prompt_tokens
        embedding: Tensor = self.head(features)["sentence_embedding"]
        return embedding[:, : self._dimension]


@dataclass(frozen=True)
class Retriever:
    """A sentence encoder, and how its files say that texts are prepared and compared.

    Attributes:
        encoder: the modules.
        max_length: maximum number of tokens of a text.
        query: how queries are put into it.
        document: how documents are put into it.
        similarity: how embeddings are compared.
        fingerprint: a digest of the weights.
        notes: sentences for the user about what the files leave open.
    """

    encoder: SentenceEncoder
    max_length: int
    query: TextKind
    document: TextKind
    similarity: Similarity
    fingerprint: str
    notes: tuple[str, ...] = ()

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the transformer."""
        tokenizer: Any = self.encoder.transformer.tokenizer
        return tokenizer  # type: ignore[no-any-return]

    def token_ids(self, texts: Sequence[str], kind: TextKind, limit: int | None) -> list[list[int]]:
        """Token ids of texts, with prompt and special tokens, as sentence-transformers prepares them.

        Args:
            texts: at least one.
            kind: what they are.
            limit: longer texts are truncated to so many tokens; None truncates nothing.
        """
        settings = {"truncation": False} if limit is None else {"truncation": True, "max_length": limit}
        prepare: Any = self.encoder.transformer.preprocess
        features = prepare(
            list(texts), prompt=kind.prompt or None, task=kind.task, processing_kwargs={"text": settings}
        )
        rows = zip(features["input_ids"], features["attention_mask"].bool(), strict=True)
        return [ids[mask].tolist() for ids, mask in rows]


def save_retriever(config: ModelSource, backbone: PreTrainedModel, folder: Path) -> None:
    """Saves a sentence embedder with a changed transformer, in the format of sentence-transformers.

    Args:
        config: source of the original embedder; pooling, normalisation and prompts come from it.
        backbone: the changed transformer.
        folder: an empty folder.

    Raises:
        InputError: the model can't be found or loaded.
    """
    model = sentence_transformer(config, torch.device("cpu"))
    model[0].model = backbone
    model.save_pretrained(str(folder), create_model_card=False)


def load_retriever(config: ModelSource, device: torch.device) -> Retriever:
    """Loads a sentence embedder with the pooling, normalisation, prompts and similarity that its files describe.

    The base model is frozen and in evaluation mode, so that its dropout adds no noise to training.

    Raises:
        InputError: the model can't be found or loaded, or its vectors would not be those of sentence-transformers.
    """
    located = locate(config)
    if located.gguf_file:
        raise InputError(
            f"{config.source!r}: sentence-transformers can't load a GGUF file; name the original embedder",
            field="model.source",
        )
    model = sentence_transformer(config, device, **weight_arguments(config, device))
    transformer, *head = model
    with explain_load_errors(config):
        # sentence-transformers does not report missing weights, so transformers is asked, on the meta device.
        _, report = type(transformer.model).from_pretrained(
            located.path_or_id,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
            device_map="meta",
            output_loading_info=True,
        )
    check_weights_present(config, report["missing_keys"])
    with explain_load_errors(config):
        kinds = {task: _text_kind(model, task) for task in ("query", "document")}
    # Pooled vectors are float32 for every type of the transformer, so the modules after it are float32 too.
    encoder = SentenceEncoder(transformer, nn.Sequential(*head).float(), model.truncate_dim)
    encoder.requires_grad_(False).eval()
    retriever = Retriever(
        encoder=encoder,
        max_length=model.max_seq_length or max_length(transformer.model, model.tokenizer),
        query=kinds["query"],
        document=kinds["document"],
        similarity=_similarity(config, model),
        fingerprint=fingerprint(located, config),
        notes=tuple(_notes(config, model, located)),
    )
    _check_vectors(config, retriever, model)
    return retriever


def sentence_transformer(config: ModelSource, device: torch.device, **weights: Any) -> Any:
    """Loads a ``SentenceTransformer``, with the prompts of the study file.

    Args:
        config: its source.
        device: the device to put it on.
        weights: arguments of ``from_pretrained`` of the transformer inside.

    Raises:
        InputError: it can't be loaded, or does not begin with a transformer.
    """
    require_extra("retrieval", "a sentence embedder")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer

    with explain_load_errors(config):
        model = SentenceTransformer(
            locate(config).path_or_id,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
            device=str(device),
            model_kwargs=weights,
        )
    if not isinstance(model[0], Transformer):
        raise InputError(
            f"{config.source!r} begins with a {type(model[0]).__name__}, which adapters can't be put into; name an "
            "embedder that begins with a transformer",
            field="model.source",
        )
    for task, prompt in (("query", config.query_prompt), ("document", config.document_prompt)):
        if prompt is not None:
            model.prompts[task] = prompt
    return model


def _text_kind(model: Any, task: Literal["query", "document"]) -> TextKind:
    prompt = next((model.prompts[name] for name in _PROMPT_NAMES[task] if name in model.prompts), "")
    features = model[0].preprocess(["text"], prompt=prompt or None, task=task)
    return TextKind(task, prompt, features.get("prompt_length"))


def _similarity(config: ModelSource, model: Any) -> Similarity:
    name: Similarity = model.similarity_fn_name
    if name not in ("cosine", "dot"):
        raise InputError(
            f"{config.source!r} compares vectors by their {name} distance; rank_search knows cosine and dot",
            field="model.source",
        )
    return name


def _notes(config: ModelSource, model: Any, located: ModelLocation) -> list[str]:
    """What the prompts of a model leave open."""
    prompts = {name: text for name, text in model.prompts.items() if text}
    advice = "set query_prompt and document_prompt beside its source if it was trained with prompts"
    if unused := sorted(prompts.keys() - {"query", "document"}):
        return [f"{config.source!r}: sentence-transformers does not use its prompt {unused[0]!r} for search; {advice}"]
    card = Path(located.path_or_id) / "README.md"
    text = card.read_text(errors="replace") if card.is_file() else ""
    is_e5 = re.search(r"(^|[-_/])e5([-_]|$)", config.source.lower()) or ("query: " in text and "passage: " in text)
    given = config.query_prompt is not None or config.document_prompt is not None
    if is_e5 and not prompts and not given:
        problem = 'looks like a model that is trained with "query: " and "passage: " before its texts'
        return [f"{config.source!r} {problem}, but its files set no prompts; {advice}"]
    return []


@torch.inference_mode()
def _check_vectors(config: ModelSource, retriever: Retriever, model: Any) -> None:
    """Checks that embeddings are those that ``encode_query`` and ``encode_document`` compute.

    Raises:
        InputError: they differ.
    """
    tolerance = _TOLERANCES[config.dtype if config.quantization == "none" else "bfloat16"]
    encoders = ((retriever.query, model.encode_query), (retriever.document, model.encode_document))
    for kind, encode in encoders:
        with explain_load_errors(config):
            expected = encode(list(_COMPARED), convert_to_tensor=True, show_progress_bar=False).float()
        for text, vector in zip(_COMPARED, expected, strict=True):
            ids = torch.tensor(retriever.token_ids([text], kind, retriever.max_length), device=vector.device)
            (found,) = retriever.encoder({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, kind)
            difference = (found - vector).abs().max() / vector.norm()
            if not difference <= tolerance:
                raise InputError(
                    f"{config.source!r}: vectors differ by {difference.item():.2g} from those of encode_{kind.task} of "
                    "sentence-transformers, as this model prepares its texts in a way that rank_search does not know; "
                    "name another embedder",
                    field="model.source",
                )
