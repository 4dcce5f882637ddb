"""Unsloth: trains a map with PEFT's layers and its own kernels, on a GPU, by a short script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rank_search.core.errors import RankSearchError
from rank_search.export.protocol import Consumer, Trainer
from rank_search.export.scripts import write_script

if TYPE_CHECKING:
    from pathlib import Path

    from rank_search.export.training_plan import TrainingPlan


def write(plan: TrainingPlan, out: Path) -> list[str]:
    """Writes ``train.py``.

    Raises:
        RankSearchError: the map adapts ``lm_head``.
    """
    if "lm_head" in plan.part.rank_map.adapted:
        raise RankSearchError("Unsloth trains lm_head whole, without a LoRA rank; use --to trl")
    return write_script("unsloth.py.j2", plan, plan.lora_settings, out)


CONSUMER = Consumer("Unsloth", trainer=Trainer("unsloth", "Unsloth", write, reads_gguf=False), position=91)
