"""Trained adapters apart from their models, and the folders that PEFT loads them from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file

from rank_search.files import whole_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from peft import PeftModel
    from torch import Tensor

ADAPTER = "default"  # PEFT's name for the one adapter in a model


@dataclass(frozen=True)
class Adapter:
    """A trained adapter, apart from its model: what PEFT saves, held in memory."""

    config: LoraConfig
    tensors: Mapping[str, Tensor]

    @classmethod
    def of(cls, peft_model: PeftModel) -> Adapter:
        """A copy of the model's adapter, its head included."""
        state = get_peft_model_state_dict(peft_model, save_embedding_layers=False)
        tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
        return cls(cast("LoraConfig", peft_model.peft_config[ADAPTER]), tensors)


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
