"""Finds the files of a model.

A source is a hub id (``sentence-transformers/all-MiniLM-L6-v2``), a folder, or ``package:NAME/SUBDIR``:
a folder inside an installed Python package, which needs no network. Each of them may end in a GGUF file:
``bartowski/SmolLM2-135M-Instruct-GGUF/SmolLM2-135M-Instruct-Q8_0.gguf``.
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
from huggingface_hub.errors import EntryNotFoundError

from rank_search.core.errors import InputError
from rank_search.core.extras import MODULES, require_extra
from rank_search.core.files import local_path, sha256

if TYPE_CHECKING:
    from rank_search.config import ModelConfig, ModelSource

# What says how a text becomes tokens, and these become vectors.
_SETTINGS = (
    *("config.json", "*/config.json", "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
    *("vocab.txt", "vocab.json", "merges.txt", "*.model"),
)
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


@dataclass(frozen=True)
class ModelLocation:
    """The location of a model, as the loaders of transformers take it.

    Attributes:
        path_or_id: a folder, or a hub id.
        gguf_file: name of the GGUF file in it, which holds configuration, tokenizer and weights; None if there is
            none.
    """

    path_or_id: str
    gguf_file: str | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for ``from_pretrained``."""
        return {"gguf_file": self.gguf_file} if self.gguf_file else {}


def locate(config: ModelSource) -> ModelLocation:
    """Finds the files of a model.

    Raises:
        InputError: the package or folder does not exist, ``revision`` is set for it, or its file does not have the
            checksum ``sha256``. For a hub id, `fingerprint` checks it after the download.
    """
    source, gguf_file = _split_gguf_file(config.source)
    if source.startswith("package:"):
        folder = _package_folder(source)
    else:
        folder = local_path(source, "model.source")
        if not folder.is_dir():
            if not _HUB_ID.fullmatch(source):
                raise InputError(
                    f"{config.source!r} is neither a folder here nor a hub id; check the path", field="model.source"
                )
            return ModelLocation(source, gguf_file)
    if config.revision is not None:
        raise InputError(
            f"{config.revision!r}: {config.source!r} is not a hub id and has no revisions; leave it out",
            field="model.revision",
        )
    if not (folder / (gguf_file or "config.json")).is_file():
        raise InputError(
            f"{config.source!r} holds no {gguf_file or 'config.json'}; name a model's folder, or its GGUF file",
            field="model.source",
        )
    if config.sha256 is not None:
        _check_sha256(folder / (gguf_file or "model.safetensors"), config.sha256)
    return ModelLocation(str(folder), gguf_file)


def has_file(config: ModelSource, name: str) -> bool:
    """Whether a model has a file of this name; of a hub id, the file is downloaded."""
    located = locate(config)
    folder = Path(located.path_or_id)
    if folder.is_dir():
        return (folder / name).is_file()
    try:
        hf_hub_download(located.path_or_id, name, revision=config.revision)
    except (OSError, EntryNotFoundError):
        return False
    return True


def _split_gguf_file(source: str) -> tuple[str, str | None]:
    """Splits a source into its folder or hub id and the GGUF file that it names, if any."""
    if not source.lower().endswith(".gguf"):
        return source, None
    path_or_id, _, file = source.rpartition("/")
    return path_or_id or ".", file


def _package_folder(source: str) -> Path:
    """The folder that ``package:NAME/SUBDIR`` names; it must lie inside the package."""
    name, _, subfolder = source.removeprefix("package:").partition("/")
    spec = find_spec(name.replace("-", "_")) if re.fullmatch(r"[\w-]+", name) else None
    if spec is None and name == MODULES["demo"][0]:
        require_extra("demo", repr(source), field="model.source")
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"{source!r}: no package {name!r} is installed; pip install it", field="model.source")
    package = Path(spec.submodule_search_locations[0]).resolve()
    folder = (package / subfolder).resolve()
    if not folder.is_dir() or not folder.is_relative_to(package):
        raise InputError(f"{source!r}: package {name!r} has no folder {subfolder!r}; check it", field="model.source")
    return folder


def _check_sha256(weights: Path, expected: str) -> None:
    if not weights.is_file():
        raise InputError(f"{weights} is missing, so its checksum can't be checked; leave it out", field="model.sha256")
    actual = sha256(weights)
    if actual != expected:
        raise InputError(
            f"{weights} has {actual}, not {expected}; download the right file, or correct the checksum",
            field="model.sha256",
        )


def choose_device(config: ModelConfig) -> torch.device:
    """The device that ``model.device`` names; ``auto`` prefers CUDA, then MPS, then the CPU.

    Raises:
        InputError: this machine does not have the named device.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if config.device == "auto":
        return torch.device(next(name for name, usable in available.items() if usable))
    if not available[config.device]:
        raise InputError(f"'{config.device}' is not available on this machine; write auto", field="model.device")
    return torch.device(config.device)


def settings_files(config: ModelSource) -> dict[str, str]:
    """SHA-256 of the files beside a model's weights by their path: configuration, tokenizer, pooling, prompts.

    Of a hub id they are those that are in the hub's cache. A GGUF file holds all of it itself.
    """
    located = locate(config)
    if located.gguf_file:
        return {}
    folder = Path(located.path_or_id)
    if not folder.is_dir():
        folder = Path(hf_hub_download(located.path_or_id, "config.json", revision=config.revision)).parent
    paths = (path for pattern in _SETTINGS for path in sorted(folder.glob(pattern)))
    return {path.relative_to(folder).as_posix(): sha256(path) for path in paths if path.is_file()}


def fingerprint(located: ModelLocation, config: ModelSource) -> str:
    """A digest of the model's weight files; it is the same for a hub id and for a copy of its files in a folder.

    Args:
        located: a folder, or a hub id whose files are already in the hub's cache.
        config: the revision of the hub id, and the checksum that the file must have.

    Raises:
        InputError: the downloaded file does not have the checksum ``sha256``.
    """
    folder = Path(located.path_or_id)
    if not folder.is_dir():
        first = located.gguf_file or "config.json"
        folder = Path(hf_hub_download(located.path_or_id, first, revision=config.revision)).parent
        if config.sha256 is not None:
            _check_sha256(folder / (located.gguf_file or "model.safetensors"), config.sha256)
    weights = [folder / located.gguf_file] if located.gguf_file else sorted(folder.glob("*.safetensors"))
    digests = [sha256(path) for path in weights]
    return "sha256:" + (digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest())
