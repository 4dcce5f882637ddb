"""Writes PEFT's adapter_config.json, as axolotl makes it from a configuration: axolotl_config.py MODEL YAML DIR.

Run in a process of its own, with axolotl on PYTHONPATH.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml
from transformers import AutoModelForCausalLM

from tests.consumers.stand_ins import stand_in_for

stand_in_for("bitsandbytes", "posthog")

from axolotl.loaders.adapter import _build_peft_lora_config  # noqa: E402
from axolotl.utils.dict import DictDefault  # noqa: E402
from axolotl.utils.schemas.config import AxolotlInputConfig  # noqa: E402

model, file, out = sys.argv[1:]
checked = AxolotlInputConfig(**yaml.safe_load(Path(file).read_text())).model_dump(exclude_none=True)
_build_peft_lora_config(AutoModelForCausalLM.from_pretrained(model), DictDefault(checked)).save_pretrained(out)
