"""Where a model's files lie.

A source is a hub id (``sentence-transformers/all-MiniLM-L6-v2``), a folder, or ``package:NAME/SUBDIR``:
a folder inside an installed Python package, which needs no network. Any of them may name a GGUF file in
it: ``bartowski/SmolLM2-135M-Instruct-GGUF/SmolLM2-135M-Instruct-Q8_0.gguf``.
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

from rank_search.core.errors import InputError
from rank_search.core.files import sha256

if TYPE_CHECKING:
    from rank_search.config import ModelConfig, ModelSource

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


@dataclass(frozen=True)
class Located:
    """What the loaders of transformers take.

    Attributes:
        place: a folder, or a hub id.
        gguf_file: the GGUF file in it that holds configuration, tokenizer and weights, if it is one.
    """

    place: str
    gguf_file: str | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for ``from_pretrained``."""
        return {"gguf_file": self.gguf_file} if self.gguf_file else {}


def locate(config: ModelSource) -> Located:
    """Where the files of a model are.

    Raises:
        InputError: the package or folder does not exist or has a ``revision``, or ``sha256`` disagrees with the
            file in it; a hub id's is checked once it is downloaded, by `fingerprint`.
    """
    source, gguf_file = _without_file(config.source)
    if source.startswith("package:"):
        folder = _package_folder(source)
    else:
        folder = Path(source).expanduser()
        if not folder.is_dir():
            if not _HUB_ID.fullmatch(source):
                raise InputError(
                    f"{config.source!r} is neither a folder here nor a hub id; mend the path", field="model.source"
                )
            return Located(source, gguf_file)
    if config.revision is not None:
        raise InputError(
            f"{config.revision!r}: {config.source!r} is no hub id, and has no revisions; leave it out",
            field="model.revision",
        )
    if not (folder / (gguf_file or "config.json")).is_file():
        raise InputError(
            f"{config.source!r} holds no {gguf_file or 'config.json'}; name a model's folder, or its GGUF file",
            field="model.source",
        )
    if config.sha256 is not None:
        _check_sha256(folder / (gguf_file or "model.safetensors"), config.sha256)
    return Located(str(folder), gguf_file)


def _without_file(source: str) -> tuple[str, str | None]:
    """The source without the GGUF file that it names, and that file."""
    if not source.lower().endswith(".gguf"):
        return source, None
    place, _, file = source.rpartition("/")
    return place or ".", file


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
    found = sha256(weights)
    if found != expected:
        raise InputError(
            f"{weights} has {found}, not {expected}; get the right file or mend the checksum", field="model.sha256"
        )


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


def fingerprint(located: Located, config: ModelSource) -> str:
    """A digest of the model's weight files, the same for a hub id and for a copy of it in a folder.

    Args:
        located: a folder, or a hub id whose files are in the hub's cache by now.
        config: the hub id's revision, and the checksum that it must have.

    Raises:
        InputError: ``sha256`` disagrees with the file that was downloaded.
    """
    folder = Path(located.place)
    if not folder.is_dir():
        first = located.gguf_file or "config.json"
        folder = Path(hf_hub_download(located.place, first, revision=config.revision)).parent
        if config.sha256 is not None:
            _check_sha256(folder / (located.gguf_file or "model.safetensors"), config.sha256)
    weights = [folder / located.gguf_file] if located.gguf_file else sorted(folder.glob("*.safetensors"))
    digests = [sha256(path) for path in weights]
    return "sha256:" + (digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest())
