"""From rank maps to adapters: many side by side in training, one by one in PEFT's form."""

from rank_search.adapters.eva import eva_directions, eva_start
from rank_search.adapters.forms import compact, padded, scales
from rank_search.adapters.layers import UnpackableError
from rank_search.adapters.loading import known_warnings, loaded, restored
from rank_search.adapters.lora import adalora_config, base_models, lora_config, module_scale, stored_transposed
from rank_search.adapters.pack import Member, Pack, Start, packed
from rank_search.adapters.saving import ADAPTER, WEIGHTS, Adapter, Adapters, adapter_folder
from rank_search.adapters.spectrum import Spectrum

__all__ = [
    "ADAPTER",
    "WEIGHTS",
    "Adapter",
    "Adapters",
    "Member",
    "Pack",
    "Spectrum",
    "Start",
    "UnpackableError",
    "adalora_config",
    "adapter_folder",
    "base_models",
    "compact",
    "eva_directions",
    "eva_start",
    "known_warnings",
    "loaded",
    "lora_config",
    "module_scale",
    "packed",
    "padded",
    "restored",
    "scales",
    "stored_transposed",
]
