"""Trained adapters apart from their models, and the folders that PEFT loads them from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from rank_search.core.errors import InputError
from rank_search.core.files import whole_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

ADAPTER = "default"  # PEFT's name for the one adapter in a model
WEIGHTS = "adapter_model.safetensors"
_BASE = "base_model.model."  # what PEFT puts before the base model's names


@dataclass(frozen=True)
class Adapter:
    """A trained adapter, apart from its model: what PEFT saves, held in memory.

    Attributes:
        config: its configuration.
        tensors: its weights under PEFT's names.
    """

    config: LoraConfig
    tensors: Mapping[str, Tensor]

    @property
    def factors(self) -> dict[str, tuple[Tensor, Tensor]]:
        """A ``[r, in]`` and B ``[out, r]`` of each adapted module, under the base model's names."""
        return factors_of(self.tensors)

    @property
    def head(self) -> dict[str, Tensor]:
        """The weights that were trained whole, under the base model's names."""
        return whole_of(self.tensors)

    def rewritten(self, config: LoraConfig, factors: Mapping[str, tuple[Tensor, Tensor]]) -> Adapter:
        """Another configuration and other factors, with the same head."""
        weights = dict(self.head)
        for name, (a, b) in factors.items():
            weights |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
        return Adapter.of(config, weights)

    @classmethod
    def load(cls, folder: Path) -> Adapter:
        """What `save` wrote.

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
        """Checks that A and B of every module belong together.

        Raises:
            InputError: naming the tensor that does not.
        """
        for name in (name for name in self.tensors if ".lora_" in name):
            stem, _, letter = name.removesuffix(".weight").rpartition(".lora_")
            other = self.tensors.get(f"{stem}.lora_{'B' if letter == 'A' else 'A'}.weight")
            of = self.tensors[name]
            fits = other is not None and of.dim() == other.dim() == 2
            if not fits or (letter == "A" and len(of) != other.shape[1]):  # type: ignore[union-attr]
                raise InputError(f"{name!r} has no fitting other half; restore the file", file=str(file))

    def save(self, folder: Path) -> None:
        """Writes the two files that ``PeftModel.from_pretrained`` loads, into a folder that may exist."""
        folder.mkdir(exist_ok=True)
        save_file(dict(self.tensors), folder / WEIGHTS, metadata={"format": "pt"})
        self.config.save_pretrained(str(folder))

    @classmethod
    def of(cls, config: LoraConfig, weights: Mapping[str, Tensor]) -> Adapter:
        """A copy of weights whose names begin at the base model."""
        copies = {
            _BASE + name: weight.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, weight in weights.items()
        }
        return cls(config, copies)


@dataclass(frozen=True)
class Adapters:
    """The trained adapters of a map, by the prefix of their base model."""

    of: Mapping[str, Adapter]

    def save(self, folder: Path) -> None:
        """Writes folders that ``PeftModel.from_pretrained`` loads, whole or not at all."""
        with whole_folder(folder, replace=True) as partial:
            for prefix, adapter in self.of.items():
                adapter.save(adapter_folder(partial, prefix))


def adapter_folder(folder: Path, prefix: str) -> Path:
    """Where in a trial's folder the adapter of one base model lies: beside the others, or alone."""
    return folder / prefix.removesuffix(".")


def factors_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """A ``[r, in]`` and B ``[out, r]`` of each adapted module, by PEFT's names, under the base model's."""
    ending = ".lora_A.weight"
    stems = [name.removesuffix(ending) for name in tensors if name.endswith(ending)]
    return {stem.removeprefix(_BASE): (tensors[stem + ending], tensors[f"{stem}.lora_B.weight"]) for stem in stems}


def whole_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that were trained whole, by PEFT's names, under the base model's."""
    return {name.removeprefix(_BASE): of for name, of in tensors.items() if ".lora_" not in name}
