"""The whole study file.

Checks that need the model (target names, ranks above a module's dimensions) are in
`rank_search.models.modules`; their messages have the same form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from rank_search.config.fields import PositiveInt, PositiveNumber, Section, Seed
from rank_search.config.models import ModelConfig, ModelSource
from rank_search.config.search import ChoiceConfig, SearchConfig, SpaceConfig
from rank_search.config.tasks import AnyTask, RagConfig
from rank_search.config.training import AdapterConfig, TrainingConfig

if TYPE_CHECKING:
    from collections.abc import Mapping


class ExecutorConfig(Section):
    """Where training runs; a study may continue with another executor."""

    kind: Literal["local", "ray"] = Field(
        "local",
        description="local: in this process; ray: on the workers of a Ray cluster, or on workers of this machine",
    )
    address: str | None = Field(
        None,
        description="address of the Ray cluster; auto: the cluster that this machine belongs to. Default: start one "
        "here",
    )
    workers: PositiveInt | None = Field(
        None,
        description="number of Ray workers, each of which trains one pack. Default: as many as the cluster has "
        "resources for",
    )
    resources: dict[Annotated[str, Field(min_length=1)], PositiveNumber] = Field(
        {"cpu": 1}, min_length=1, description="resources that each Ray worker uses, such as {gpu: 1}"
    )


class StudyConfig(Section):
    """The whole study file."""

    study: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100, description="name of the study and its folder"
    )
    seed: Seed = Field(0, description="seed from which all random draws derive")
    model: ModelConfig = Field(description="the frozen base model")
    task: AnyTask = Field(description="what the model must do, and on which data")
    space: SpaceConfig = Field(SpaceConfig(), description="the search space")
    adapter: AdapterConfig = Field(AdapterConfig(), description="the LoRA adapters")
    training: TrainingConfig = Field(TrainingConfig(), description="the fine-tuning of every proposal")
    search: SearchConfig = Field(SearchConfig(), description="the Optuna study")
    choice: ChoiceConfig = Field(ChoiceConfig(), description="which map of the front is chosen")
    executor: ExecutorConfig = Field(ExecutorConfig(), description="where training runs")
    trackers: tuple[Literal["tensorboard", "trackio", "wandb", "mlflow"], ...] = Field(
        (), description="experiment trackers that receive each finished trial as a run. Default: none"
    )

    @model_validator(mode="after")
    def _check_sections_agree(self) -> StudyConfig:
        """Checks fields that depend on other sections, such as ranges that must contain the baselines' values."""
        fixed = {
            "learning_rate": self.training.learning_rate,
            "alpha": self.adapter.alpha,
            "dropout": self.adapter.dropout,
        }
        for name, value in fixed.items():
            bounds = getattr(self.space, name)
            section = "training" if name == "learning_rate" else "adapter"
            if bounds is not None and not bounds[0] <= value <= bounds[1]:
                raise ValueError(
                    f"space.{name}: {list(bounds)} does not contain {section}.{name} = {value}, with which the "
                    f"baselines are trained; widen the range, or change {section}.{name}"
                )
            if bounds is not None and self.search.sampler == "grid":
                raise ValueError(f"search.sampler: grid can't try every value of space.{name}; leave space.{name} out")
        if self.training.head_learning_rate is not None and self.task.kind != "classification":
            raise ValueError("training.head_learning_rate: only classifiers have a head; leave it out")
        if self.task.kind != "retrieval" and (self.model.query_prompt, self.model.document_prompt) != (None, None):
            raise ValueError("model.query_prompt: only sentence embedders have such prompts; leave it out")
        if self.space.augmentation and self.training.augmentation == "none":
            raise ValueError("space.augmentation: there is no augmentation to search; set training.augmentation")
        return self

    @property
    def base_models(self) -> dict[str, ModelSource]:
        """The adapted base models by the prefix of their module names; a single model has the empty prefix."""
        if isinstance(self.task, RagConfig):
            return {"retriever.": self.task.retriever, "generator.": self.model}
        return {"": self.model}

    def tuned(self, settings: Mapping[str, float]) -> StudyConfig:
        """The study with a training's own settings applied: learning rates, steps, α, dropout, augmentation."""
        remaining = dict(settings)
        rates = ("learning_rate", "head_learning_rate")
        training: dict[str, Any] = {key: remaining.pop(key) for key in rates if key in remaining}
        if "steps" in remaining:
            training["steps"] = int(remaining.pop("steps"))
        if not remaining.pop("augmentation", 1):
            training["augmentation"] = "none"
        return self.model_copy(
            update={
                "training": self.training.model_copy(update=training),
                "adapter": self.adapter.model_copy(update=remaining),
            }
        )

    def frozen(self) -> dict[str, Any]:
        """The settings that can't change during a study: all except its budget, its executor and its trackers."""
        budget = {"trials", "repeats", "verdict_seeds", "tune_uniform", "trial_minutes", "max_failures", "pack"}
        return self.model_dump(mode="json", exclude={"search": budget, "executor": True, "trackers": True})

    def continuing(self, kept: Mapping[str, Any]) -> StudyConfig:
        """This study file for a study that was started with these settings.

        A study that was started before examples could be set apart for the choice goes on without them.
        """
        names_selection = "selection_size" in self.task.model_fields_set
        if names_selection or kept["task"].get("selection_size", 0) != 0:
            return self
        return self.model_copy(update={"task": self.task.model_copy(update={"selection_size": 0})})

    def to_yaml(self) -> str:
        """The study file with all defaults, as YAML."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
