"""axolotl: merges adapters by a rule of its own, and trains from ``axolotl.yaml``."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from rank_search.core.errors import RankSearchError
from rank_search.core.files import write_text
from rank_search.export.protocol import ADAPTER_FORMATS, CAUSAL_LMS, Consumer, Reader, Trainer
from rank_search.export.scripts import comment
from rank_search.export.updates import AppliedUpdates

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from rank_search.export.adapter_files import AdapterFiles
    from rank_search.export.protocol import Bundle
    from rank_search.export.training_plan import TrainingPlan

_RELEASE = "axolotl==0.19.0"
_PEFT_PREFIX = "base_model.model."


def merge_rule(adapter: AdapterFiles) -> AppliedUpdates:
    """How axolotl 0.19.0 merges an adapter: each tensor's rank, and α by PEFT's matching.

    Source: ``axolotl/cli/utils/lora_merge.py``, ``_resolve_lora_alpha_for_key`` and
    ``_build_peft_layer_and_get_delta``. When axolotl continues the training of an adapter, PEFT loads it.
    """
    return adapter.scaled(lambda name, a: adapter.scale(len(a), adapter.alpha_by_pattern(name)))


def merge_by_own_code(bundle: Bundle) -> AppliedUpdates:
    """Merges with axolotl's own code, module by module: the change of each weight is its update."""
    import torch
    from axolotl.cli.utils.lora_merge import _build_peft_layer_and_get_delta, _resolve_lora_alpha_for_key
    from safetensors.torch import load_file

    config = json.loads((bundle.folder / "adapter_config.json").read_text(encoding="utf-8"))
    tensors = load_file(bundle.folder / "adapter_model.safetensors")
    updates: dict[str, tuple[Tensor, Tensor, float]] = {}
    for key, a in tensors.items():
        if not key.endswith(".lora_A.weight"):
            continue
        name = key.removeprefix(_PEFT_PREFIX).removesuffix(".lora_A.weight")
        b = tensors[key.replace(".lora_A.", ".lora_B.")]
        weight = bundle.base.model.get_parameter(f"{name}.weight")
        alpha = _resolve_lora_alpha_for_key(f"{name}.weight", config)
        change = _build_peft_layer_and_get_delta(a, b, config, weight, lora_alpha_override=alpha).detach()
        # The change has the shape of the weight, which GPT-2's Conv1D stores transposed.
        updates[name] = (torch.eye(a.shape[1]), change.T if config.get("fan_in_fan_out") else change, 1.0)
    return AppliedUpdates(updates)


def write_config(plan: TrainingPlan, out: Path) -> list[str]:
    """Writes ``axolotl.yaml``, to which the user adds data.

    Raises:
        RankSearchError: the map has a fractional α, and axolotl takes only whole numbers.
    """
    import yaml

    text = yaml.safe_dump(_settings(plan), sort_keys=False, allow_unicode=True, width=120)
    write_text(out / "axolotl.yaml", comment(plan.part) + "# Name your data under datasets.\n" + text)
    return ["axolotl train axolotl.yaml (name your data in it first)"]


def _settings(plan: TrainingPlan) -> dict[str, Any]:
    """The content of ``axolotl.yaml``."""
    lora, model, training = plan.lora_settings, plan.part.model, plan.part.exported.config.training
    return {
        "base_model": plan.part.source,
        **({"revision_of_model": model.revision} if model.revision else {}),
        **_adapter_settings(lora),
        "max_steps": training.steps,
        "micro_batch_size": training.batch_size,
        "gradient_accumulation_steps": 1,
        "learning_rate": training.learning_rate,
        "lr_scheduler": "linear",
        "warmup_ratio": training.warmup,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "optimizer": "adamw_torch",
        "sequence_len": plan.length,
        "seed": plan.part.exported.config.seed,
        "output_dir": "./outputs",
        "datasets": [{"path": "YOUR_DATA.jsonl", "type": "chat_template"}],
    }


def _adapter_settings(lora: dict[str, Any]) -> dict[str, Any]:
    """PEFT's arguments under axolotl's names."""
    alphas = [lora["lora_alpha"], *lora.get("alpha_pattern", {}).values()]
    if fraction := next((alpha for alpha in alphas if alpha != int(alpha)), None):
        raise RankSearchError(f"axolotl takes whole numbers for α, and this map has {fraction:g}; use --to trl")
    targets = lora["target_modules"]
    if "exclude_modules" in lora:
        # A list would also match modules whose names end like these, and axolotl drops exclude_modules silently.
        targets = "|".join(map(re.escape, targets))
    return {
        "adapter": "lora",
        "lora_r": lora["r"],
        "lora_alpha": int(lora["lora_alpha"]),
        "lora_dropout": lora["lora_dropout"],
        "peft_use_rslora": lora["use_rslora"],
        "lora_target_modules": targets,
        "lora_rank_pattern": lora["rank_pattern"],
        **({"lora_alpha_pattern": lora["alpha_pattern"]} if "alpha_pattern" in lora else {}),
    }


CONSUMER = Consumer(
    name="axolotl",
    position=30,
    readers=(
        Reader(
            label="axolotl",
            name="axolotl",
            package="axolotl",
            formats=ADAPTER_FORMATS,
            auto_classes=CAUSAL_LMS,
            certified=frozenset({"compact", "padded"}),
            own_code=merge_by_own_code,
            rules=lambda bundle: merge_rule(bundle.adapter),
            rules_version="0.19.0",
            release=_RELEASE,
        ),
    ),
    trainer=Trainer("axolotl", "axolotl", write_config, reads_gguf=False, releases=(_RELEASE,)),
)
