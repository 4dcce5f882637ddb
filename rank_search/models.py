"""Where a model comes from, and how it is loaded.

A source is a hub id (``sentence-transformers/all-MiniLM-L6-v2``), a folder, or ``package:NAME/SUBDIR``:
a folder inside an installed Python package, which needs no network.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from torch import Tensor, nn

from rank_search.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from rank_search.config import ModelConfig

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def locate(config: ModelConfig) -> str:
    """The folder or hub id that the loaders of transformers take.

    Raises:
        InputError: the package or folder does not exist, or ``model.sha256`` disagrees with the file.
    """
    if config.source.startswith("package:"):
        folder = _package_folder(config.source)
    else:
        folder = Path(config.source).expanduser()
        if not folder.is_dir():
            if not _HUB_ID.fullmatch(config.source):
                raise InputError(
                    f"{config.source!r} is neither a folder here nor a hub id; mend the path", field="model.source"
                )
            return config.source
    if not (folder / "config.json").is_file():
        raise InputError(f"{config.source!r} holds no config.json; name a model's folder", field="model.source")
    if config.sha256 is not None:
        _check_sha256(folder / "model.safetensors", config.sha256)
    return str(folder)


def _package_folder(source: str) -> Path:
    name, _, subfolder = source.removeprefix("package:").partition("/")
    spec = find_spec(name.replace("-", "_")) if re.fullmatch(r"[\w-]+", name) else None
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"{source!r}: no package {name!r} is installed; pip install it", field="model.source")
    package = Path(spec.submodule_search_locations[0]).resolve()
    folder = (package / subfolder).resolve()
    if not folder.is_dir() or not folder.is_relative_to(package):
        raise InputError(f"{source!r}: package {name!r} has no folder {subfolder!r}", field="model.source")
    return folder


def _check_sha256(weights: Path, expected: str) -> None:
    if not weights.is_file():
        raise InputError(f"{weights} is missing, so its checksum can't be checked; drop it", field="model.sha256")
    found = file_sha256(weights)
    if found != expected:
        raise InputError(
            f"{weights} has {found}, not {expected}; get the right file or mend the checksum", field="model.sha256"
        )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def choose_device(config: ModelConfig) -> torch.device:
    """The device that ``model.device`` names; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        InputError: the named device is not present.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if config.device == "auto":
        return torch.device(next(name for name, here in present.items() if here))
    if not present[config.device]:
        raise InputError(f"'{config.device}' is not present on this machine; write auto", field="model.device")
    return torch.device(config.device)


def skeleton(config: ModelConfig) -> nn.Module:
    """The base model on the meta device: every module and shape, no weights, no download of any.

    Raises:
        InputError: the source holds no model that transformers knows.
    """
    from transformers import AutoConfig, AutoModel

    source = locate(config)
    try:
        settings = AutoConfig.from_pretrained(
            source, revision=config.revision, trust_remote_code=config.trust_remote_code
        )
        with torch.device("meta"):
            model: nn.Module = AutoModel.from_config(settings, trust_remote_code=config.trust_remote_code)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise _unusable(config, error) from error
    return model


def _unusable(config: ModelConfig, error: Exception) -> InputError:
    return InputError(
        f"{config.source!r} can't be loaded ({str(error).splitlines()[0]}); without a network, name a folder "
        "that holds the model",
        field="model.source",
    )


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


@dataclass(frozen=True)
class Retriever:
    """A sentence encoder with its tokenizer, and the prefixes that its files ask for."""

    encoder: SentenceEncoder
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    query_prompt: str
    document_prompt: str
    fingerprint: str


def load_retriever(config: ModelConfig) -> Retriever:
    """Loads a sentence embedder, with pooling, normalisation and prompts as its own files say.

    The base is frozen, in float32, and in evaluation mode: its own dropout stays off, so that the noise
    between two adapters is theirs alone.

    Raises:
        InputError: the model can't be found or loaded.
    """
    from sentence_transformers import SentenceTransformer

    source = locate(config)
    device = choose_device(config)
    try:
        model: Any = SentenceTransformer(
            source,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
            device=str(device),
            model_kwargs={"dtype": torch.float32, "use_safetensors": True},
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise _unusable(config, error) from error
    transformer, *head = model
    encoder = SentenceEncoder(transformer.model, nn.Sequential(*head))
    encoder.requires_grad_(False).eval()
    prompts = model.prompts or {}
    return Retriever(
        encoder=encoder,
        tokenizer=model.tokenizer,
        max_length=model.max_seq_length,
        query_prompt=prompts.get("query", ""),
        document_prompt=prompts.get("document", prompts.get("passage", "")),
        fingerprint=fingerprint(source, config.revision),
    )


def fingerprint(source: str, revision: str | None) -> str:
    """A digest of the model's safetensors files, the same for a hub id and for a copy of it in a folder.

    Args:
        source: a folder, or a hub id whose files are in the hub's cache by now.
        revision: the hub id's revision.
    """
    folder = Path(source)
    if not folder.is_dir():
        folder = Path(hf_hub_download(source, "config.json", revision=revision)).parent
    digests = [file_sha256(weights) for weights in sorted(folder.glob("*.safetensors"))]
    return "sha256:" + (digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest())
