"""Trained adapters apart from their models, and the folders that PEFT loads them from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file

from rank_search.files import whole_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from peft import LoraConfig
    from torch import Tensor

ADAPTER = "default"  # PEFT's name for the one adapter in a model


@dataclass(frozen=True)
class Adapter:
    """A trained adapter, apart from its model: what PEFT saves, held in memory.

    Attributes:
        config: its configuration.
        tensors: its weights under PEFT's names.
    """

    config: LoraConfig
    tensors: Mapping[str, Tensor]

    @classmethod
    def of(cls, config: LoraConfig, weights: Mapping[str, Tensor]) -> Adapter:
        """A copy of weights whose names begin at the base model."""
        copies = {
            f"base_model.model.{name}": weight.detach().cpu().clone(memory_format=torch.contiguous_format)
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
                own = adapter_folder(partial, prefix)
                own.mkdir(exist_ok=True)
                save_file(dict(adapter.tensors), own / "adapter_model.safetensors", metadata={"format": "pt"})
                adapter.config.save_pretrained(str(own))


def adapter_folder(folder: Path, prefix: str) -> Path:
    """Where in a trial's folder the adapter of one base model lies: beside the others, or alone."""
    return folder / prefix.removesuffix(".")
