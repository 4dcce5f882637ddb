"""What a trainer needs for a fresh training at a map: its configuration or script, for each base model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rank_search.adapters import adapter_folder, base_models, lora_config
from rank_search.core.errors import RankSearchError
from rank_search.export.scripts import model_location
from rank_search.export.training_plan import TrainingPlan
from rank_search.models.modules import linear_modules
from rank_search.tasks.load import load_skeleton

if TYPE_CHECKING:
    from pathlib import Path

    from rank_search.export.exported_trial import ExportedTrial, ModelPart
    from rank_search.export.protocol import Trainer


def write_training(exported: ExportedTrial, trainer: Trainer, out: Path) -> list[str]:
    """Writes what a trainer needs for each base model; of several, each into a folder of its own.

    Returns:
        Lines to print.

    Raises:
        InputError: a base model runs code that the user does not trust.
        RankSearchError: the trainer can't train this kind of model, or can't express this map.
    """
    exported.refuse_untrusted_code()
    models = base_models(load_skeleton(exported.config))
    parts, lines = exported.parts, []
    causal = [part for part in parts if part.auto_class == "AutoModelForCausalLM"]
    if trainer.causal_lms_only and causal and len(causal) < len(parts):  # of a RAG study
        parts, lines = causal, ["the generator alone; the retriever's part is in --to lora-config"]
    for part in parts:
        modules = tuple(linear_modules(models[part.prefix]))
        config = lora_config(
            part.rank_map,
            exported.config.adapter,
            base_model=part.model.source,
            head=exported.metadata.head,
            fan_in_fan_out=part.transposed,
            others=modules,
        )
        folder = adapter_folder(out, part.prefix)
        folder.mkdir(exist_ok=True)
        _check_trainable(part, trainer)
        lines += trainer.write(TrainingPlan(part, config, modules), folder)
    return lines


def _check_trainable(part: ModelPart, trainer: Trainer) -> None:
    """Checks that a trainer takes a base model.

    Raises:
        RankSearchError: it does not.
    """
    if trainer.causal_lms_only and part.auto_class != "AutoModelForCausalLM":
        raise RankSearchError(f"{trainer.name} trains causal LMs, and this study's model is none; use --to lora-config")
    if not trainer.reads_gguf and model_location(part)["gguf_file"]:
        raise RankSearchError(
            f"{trainer.name} can't train from a GGUF file, and {part.model.source!r} is one; use --to trl, or search "
            "on the original model"
        )
