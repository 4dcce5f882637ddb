"""Builds adapters from rank maps: many side by side for training, and single ones in PEFT's form."""

from rank_search.adapters.eva import eva_directions, eva_init
from rank_search.adapters.forms import compact, in_all_layers, padded
from rank_search.adapters.loading import known_warnings, loaded
from rank_search.adapters.lora import adalora_config, base_models, lora_config, stored_transposed
from rank_search.adapters.members import AdapterInit, Member, TrainableParameters
from rank_search.adapters.pack import Pack, packed
from rank_search.adapters.rows import UnpackableError
from rank_search.adapters.saving import (
    ADAPTER,
    Adapter,
    Adapters,
    adapter_folder,
    head_weights,
    lora_factors,
    saved_ranks,
)
from rank_search.adapters.scale import lora_scale, module_scale
from rank_search.adapters.spectrum import Spectrum
from rank_search.adapters.support import check_exportable, unsupported_modules

__all__ = [
    "ADAPTER",
    "Adapter",
    "AdapterInit",
    "Adapters",
    "Member",
    "Pack",
    "Spectrum",
    "TrainableParameters",
    "UnpackableError",
    "adalora_config",
    "adapter_folder",
    "base_models",
    "check_exportable",
    "compact",
    "eva_directions",
    "eva_init",
    "head_weights",
    "in_all_layers",
    "known_warnings",
    "loaded",
    "lora_config",
    "lora_factors",
    "lora_scale",
    "module_scale",
    "packed",
    "padded",
    "saved_ranks",
    "stored_transposed",
    "unsupported_modules",
]
