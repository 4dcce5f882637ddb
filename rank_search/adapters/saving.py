"""Trained adapters in memory, separate from their models; and the folders that PEFT loads them from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from peft import LoraConfig
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from rank_search.core.errors import InputError
from rank_search.core.files import atomic_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

ADAPTER = "default"  # PEFT's name for the one adapter in a model
WEIGHTS = "adapter_model.safetensors"
_BASE = "base_model.model."  # PEFT's prefix of the base model's names
_A = ".lora_A.weight"


@dataclass(frozen=True)
class Adapter:
    """A trained adapter in memory, separate from its model: the content of the files that PEFT saves.

    Attributes:
        config: PEFT's configuration.
        tensors: the weights, under PEFT's names.
    """

    config: LoraConfig
    tensors: Mapping[str, Tensor]

    @property
    def factors(self) -> dict[str, tuple[Tensor, Tensor]]:
        """A ``[r, in]`` and B ``[out, r]`` of each adapted module, under the base model's names."""
        return lora_factors(self.tensors)

    @property
    def head(self) -> dict[str, Tensor]:
        """Weights of the modules that were trained whole, under the base model's names."""
        return head_weights(self.tensors)

    def rewritten(self, config: LoraConfig, factors: Mapping[str, tuple[Tensor, Tensor]]) -> Adapter:
        """A new adapter with another configuration and other factors, and with this adapter's head."""
        weights = dict(self.head)
        for name, (a, b) in factors.items():
            weights |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
        return Adapter.from_weights(config, weights)

    @classmethod
    def load(cls, folder: Path) -> Adapter:
        """Reads an adapter that `save` wrote.

        Raises:
            InputError: the folder holds no adapter, or a damaged one.
        """
        weights = folder / WEIGHTS
        try:
            config = LoraConfig.from_pretrained(str(folder))
            tensors = load_file(weights)
        except (OSError, ValueError, TypeError, SafetensorError) as error:
            raise InputError(f"is damaged or missing ({error}); restore it", file=str(weights)) from None
        adapter = cls(config, tensors)
        adapter.check(weights)
        return adapter

    def check(self, file: Path) -> None:
        """Checks that every A has a B of the same rank, and every B an A.

        Raises:
            InputError: names the first tensor for which this is not so.
        """
        for name in (name for name in self.tensors if ".lora_" in name):
            stem, _, letter = name.removesuffix(".weight").rpartition(".lora_")
            other = self.tensors.get(f"{stem}.lora_{'B' if letter == 'A' else 'A'}.weight")
            tensor = self.tensors[name]
            fits = other is not None and tensor.dim() == other.dim() == 2
            if not fits or (letter == "A" and len(tensor) != other.shape[1]):  # type: ignore[union-attr]
                raise InputError(f"{name!r} has no fitting other half; restore the file", file=str(file))

    def save(self, folder: Path) -> None:
        """Writes the two files that ``PeftModel.from_pretrained`` loads; makes the folder if it does not exist."""
        folder.mkdir(exist_ok=True)
        save_file(dict(self.tensors), folder / WEIGHTS, metadata={"format": "pt"})
        self.config.save_pretrained(str(folder))

    @classmethod
    def from_weights(cls, config: LoraConfig, weights: Mapping[str, Tensor]) -> Adapter:
        """Copies weights to the CPU; their names are the base model's, without PEFT's prefix."""
        copies = {
            _BASE + name: weight.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, weight in weights.items()
        }
        return cls(config, copies)


@dataclass(frozen=True)
class Adapters:
    """The trained adapters of a map.

    Attributes:
        by_prefix: prefix of a base model's module names → its adapter.
    """

    by_prefix: Mapping[str, Adapter]

    def save(self, folder: Path) -> None:
        """Writes folders that ``PeftModel.from_pretrained`` loads; writes all of them or none."""
        with atomic_folder(folder, replace=True) as partial:
            for prefix, adapter in self.by_prefix.items():
                adapter.save(adapter_folder(partial, prefix))


def saved_ranks(folder: Path) -> dict[str, int]:
    """Module → rank of the adapters in a trial's folder, under the study's names; only the files' heads are read.

    Raises:
        SafetensorError: a file is damaged.
    """
    ranks = {}
    for file in sorted(folder.rglob(WEIGHTS)):
        prefix = "".join(f"{part}." for part in file.parent.relative_to(folder).parts)
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  it is no dictionary
                if name.endswith(_A):
                    module = prefix + name.removeprefix(_BASE).removesuffix(_A)
                    ranks[module] = int(tensors.get_slice(name).get_shape()[0])
    return ranks


def adapter_folder(folder: Path, prefix: str) -> Path:
    """The folder of one base model's adapter in a trial's folder; the trial's folder itself if the prefix is empty."""
    return folder / prefix.removesuffix(".")


def lora_factors(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Base model's name of each adapted module → A ``[r, in]`` and B ``[out, r]``; the tensors have PEFT's names."""
    ending = ".lora_A.weight"
    stems = [name.removesuffix(ending) for name in tensors if name.endswith(ending)]
    return {stem.removeprefix(_BASE): (tensors[stem + ending], tensors[f"{stem}.lora_B.weight"]) for stem in stems}


def head_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Base model's name → weight of each module that was trained whole; the tensors have PEFT's names."""
    return {name.removeprefix(_BASE): weight for name, weight in tensors.items() if ".lora_" not in name}
