"""From a rank map to PEFT: one builder of `LoraConfig`, one injection, one way to save and load."""

from rank_search.adapters.eva import eva_directions
from rank_search.adapters.injection import adapted, base_models, check_injection, loaded, lora_layers
from rank_search.adapters.lora import lora_config, module_scale
from rank_search.adapters.saving import Adapter, Adapters, adapter_folder

__all__ = [
    "Adapter",
    "Adapters",
    "adapted",
    "adapter_folder",
    "base_models",
    "check_injection",
    "eva_directions",
    "loaded",
    "lora_config",
    "lora_layers",
    "module_scale",
]
