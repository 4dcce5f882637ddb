"""A fresh training at a map, which each trainer's writer turns into a configuration or a script."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rank_search.config import GenerationConfig, RagConfig

if TYPE_CHECKING:
    from peft import LoraConfig

    from rank_search.export.exported_trial import ModelPart

_QUESTION_LENGTH = 256  # tokens for a question and the words around it
_LORA_ARGUMENTS = (
    "r",
    "lora_alpha",
    "lora_dropout",
    "use_rslora",
    "target_modules",
    "exclude_modules",
    "rank_pattern",
    "alpha_pattern",
)


@dataclass(frozen=True)
class TrainingPlan:
    """A fresh training of one base model.

    Attributes:
        part: the map and its base model.
        config: PEFT's configuration of both.
        modules: names of the base model's linear layers.
    """

    part: ModelPart
    config: LoraConfig
    modules: tuple[str, ...]

    @property
    def length(self) -> int:
        """Tokens that hold the study's longest prompt and answer."""
        task = self.part.exported.config.task
        if not isinstance(task, GenerationConfig | RagConfig):
            raise TypeError(task.kind)
        return task.passages * task.passage_length + task.max_new_tokens + _QUESTION_LENGTH

    @property
    def lora_settings(self) -> dict[str, Any]:
        """The arguments of the configuration that differ from PEFT's defaults, as literals."""
        values = vars(self.config)
        settings = {name: values[name] for name in _LORA_ARGUMENTS if values[name] not in (None, {})}
        return {**settings, "target_modules": list(self.part.rank_map.adapted)}
