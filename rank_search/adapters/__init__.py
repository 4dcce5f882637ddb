"""From rank maps to adapters: many side by side in training, one by one in PEFT's form."""

from rank_search.adapters.eva import eva_directions, eva_start
from rank_search.adapters.forms import compact, in_all_layers, padded
from rank_search.adapters.layers import UnpackableError
from rank_search.adapters.loading import known_warnings, loaded, restored
from rank_search.adapters.lora import adalora_config, base_models, lora_config, module_scale, stored_transposed
from rank_search.adapters.pack import Member, Pack, Start, Trained, packed
from rank_search.adapters.saving import ADAPTER, Adapter, Adapters, adapter_folder, factors_of, whole_of
from rank_search.adapters.spectrum import Spectrum

__all__ = [
    "ADAPTER",
    "Adapter",
    "Adapters",
    "Member",
    "Pack",
    "Spectrum",
    "Start",
    "Trained",
    "UnpackableError",
    "adalora_config",
    "adapter_folder",
    "base_models",
    "compact",
    "eva_directions",
    "eva_start",
    "factors_of",
    "in_all_layers",
    "known_warnings",
    "loaded",
    "lora_config",
    "module_scale",
    "packed",
    "padded",
    "restored",
    "stored_transposed",
    "whole_of",
]
