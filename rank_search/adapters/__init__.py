"""From rank maps to adapters: many side by side in training, one by one in PEFT's form."""

from rank_search.adapters.eva import eva_directions
from rank_search.adapters.layers import UnpackableError
from rank_search.adapters.loading import loaded
from rank_search.adapters.lora import base_models, lora_config, module_scale
from rank_search.adapters.pack import Member, Pack, packed
from rank_search.adapters.saving import Adapter, Adapters, adapter_folder

__all__ = [
    "Adapter",
    "Adapters",
    "Member",
    "Pack",
    "UnpackableError",
    "adapter_folder",
    "base_models",
    "eva_directions",
    "loaded",
    "lora_config",
    "module_scale",
    "packed",
]
