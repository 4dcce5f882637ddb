"""TRL: trains a map with PEFT by a short script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rank_search.export.protocol import Consumer, Trainer
from rank_search.export.scripts import write_script

if TYPE_CHECKING:
    from pathlib import Path

    from rank_search.export.training_plan import TrainingPlan


def write(plan: TrainingPlan, out: Path) -> list[str]:
    """Writes ``train.py``; TRL hands the LoRA settings to PEFT as they are."""
    return write_script("trl.py.j2", plan, plan.lora_settings, out)


CONSUMER = Consumer("TRL", trainer=Trainer("trl", "TRL", write, releases=("trl==1.16.0",)), position=90)
