"""The study file as a whole.

What can only be checked against the model (target names, ranks that a module is too small for) is
checked in `rank_search.core.space`, in the same words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import Field, StrictBool, StrictInt, field_validator, model_validator

from rank_search.config.fields import Fraction, Number, PositiveInt, PositiveNumber, Section, Seed
from rank_search.config.models import ModelConfig, ModelSource
from rank_search.config.tasks import AnyTask, RagConfig

if TYPE_CHECKING:
    from collections.abc import Mapping


class SpaceConfig(Section):
    """What the search may propose."""

    ladder: tuple[Annotated[StrictInt, Field(ge=0)], ...] = Field(
        (0, 1, 2, 4, 8), description="the ranks to choose from, ascending; 0 leaves a module alone"
    )
    group_by: Literal["layer", "block", "module"] = Field(
        "layer", description="one rank for a layer, for its attention and feed-forward, or for each module"
    )
    targets: Literal["all-linear", "attention", "feed-forward"] | tuple[str, ...] = Field(
        "all-linear", description="where adapters sit: all linear layers, one half, or module names"
    )
    learning_rate: tuple[PositiveNumber, PositiveNumber] | None = Field(
        None, description="[lowest, highest] to search beside the ranks, on a log scale. Default: not searched"
    )
    alpha: tuple[PositiveNumber, PositiveNumber] | None = Field(
        None, description="[lowest, highest] to search beside the ranks, on a log scale. Default: not searched"
    )
    dropout: tuple[Fraction, Fraction] | None = Field(
        None, description="[lowest, highest] to search beside the ranks. Default: not searched"
    )
    prior: str | None = Field(
        None,
        description="file that export --to rank-curve wrote, of another model's study: the map nearest to it is tried "
        "after the uniform ones. Default: none",
    )
    augmentation: StrictBool = Field(False, description="whether to search training.augmentation off and on")

    @field_validator("ladder")
    @classmethod
    def _ascending(cls, ladder: tuple[int, ...]) -> tuple[int, ...]:
        if not any(ladder):
            raise ValueError("has no rank above 0; give at least one, such as [0, 1, 2, 4, 8]")
        if list(ladder) != sorted(set(ladder)):
            raise ValueError(f"must ascend without repeats; write {sorted(set(ladder))}")
        return ladder

    @field_validator("targets")
    @classmethod
    def _some_target(cls, targets: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not targets:
            raise ValueError("is empty; name modules such as [query, value], or write all-linear")
        return targets

    @field_validator("learning_rate", "alpha", "dropout")
    @classmethod
    def _a_range(cls, bounds: tuple[float, float] | None) -> tuple[float, float] | None:
        if bounds is not None and bounds[0] >= bounds[1]:
            raise ValueError("must be [lowest, highest]")
        return bounds


class InitConfig(Section):
    """How A starts; B starts at zero, so a fresh adapter changes nothing."""

    method: Literal["gaussian", "kaiming", "eva"] = Field("kaiming", description="law of A")
    std: PositiveNumber = Field(0.02, description="standard deviation, for gaussian")


class AdapterConfig(Section):
    """The LoRA adapters: h = W x + s · B A x."""

    scale: Literal["rslora", "alpha/r", "constant"] = Field(
        "rslora", description="scale rule: s = α/√r (arXiv:2312.03732), α/r (LoRA), or α itself at every rank"
    )
    alpha: PositiveNumber = Field(4.0, description="the α of the scale rule")
    dropout: Fraction = Field(0.0, description="dropout on the adapter's input")
    init: InitConfig = Field(InitConfig(), description="how A starts")


class TrainingConfig(Section):
    """The fine-tune that every proposal gets."""

    steps: PositiveInt = Field(60, description="optimiser steps")
    batch_size: PositiveInt = Field(16, description="examples a step")
    eval_batch_size: PositiveInt = Field(64, description="texts at once in evaluation, those of all maps of a pack")
    learning_rate: PositiveNumber = Field(2e-3, description="AdamW's peak learning rate")
    head_learning_rate: PositiveNumber | None = Field(
        None, description="that of a classifier's head, which starts afresh. Default: learning_rate"
    )
    weight_decay: Annotated[Number, Field(ge=0)] = Field(0.0, description="AdamW's weight decay")
    warmup: Fraction = Field(0.1, description="share of the steps with rising learning rate")
    max_grad_norm: PositiveNumber = Field(1.0, description="gradients of a base model's adapters are clipped to it")
    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto",
        description="type in which a float32 base computes in training; auto: bfloat16 where the device has it in "
        "hardware. Adapters are held, and final scores computed, in float32",
    )
    augmentation: str = Field(
        "none",
        pattern=r"^(none|token-dropout|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$",
        description="change of the training inputs: none, token-dropout, or your own function as module:function, "
        "called with a text and a random.Random, returning a text",
    )
    token_dropout: Fraction = Field(0.1, description="probability of dropping a word, for token-dropout")

    @property
    def rate_of_head(self) -> float:
        """The head's peak learning rate."""
        return self.head_learning_rate or self.learning_rate

    def with_adapters_at(self, factor: float) -> TrainingConfig:
        """The same training with adapters learning that much faster, and the head as before."""
        return self.model_copy(
            update={"learning_rate": factor * self.learning_rate, "head_learning_rate": self.rate_of_head}
        )


class NestedConfig(Section):
    """The nested super-adapter: one training, after which any map is scored by truncation."""

    steps: PositiveInt | None = Field(None, description="optimiser steps of its training. Default: training.steps")
    evaluations: PositiveInt = Field(60, description="maps to score by truncation")
    confirm: Literal["scratch", "warm"] = Field(
        "scratch", description="where the fine-tune of a candidate starts: afresh, or from the truncation"
    )
    least_tau: Annotated[Number, Field(ge=-1, le=1)] = Field(
        0.3,
        description="Kendall's τ of nested and fine-tuned scores, below which maps are proposed by the sampler instead",
    )


class SearchConfig(Section):
    """The Optuna study."""

    strategy: Literal["nested", "finetune"] = Field(
        "finetune",
        description="nested: look at maps by truncating a super-adapter, fine-tune those of its front; finetune: "
        "fine-tune every proposal of the sampler",
    )
    trials: PositiveInt = Field(
        24, description="finished trials in the space to reach, uniform maps, repeats and failures included"
    )
    repeats: Annotated[StrictInt, Field(ge=0)] | None = Field(
        None, description="trials among them that train maps of the contested front again. Default: a quarter"
    )
    baselines: tuple[Literal["svd", "eva", "adalora"], ...] = Field(
        ("svd", "eva", "adalora"),
        description="what to train beside the uniform maps, not counted in trials: truncations of one training of "
        "twice the ladder's top rank, EVA's redistribution and AdaLoRA at each rank of the ladder",
    )
    verdict_seeds: Annotated[StrictInt, Field(ge=0)] = Field(
        3, description="fresh seeds with which the chosen map and its rivals are trained for the verdict"
    )
    sampler: Literal["nehvi", "tpe", "gp", "nsga2", "random", "grid"] = Field(
        "nehvi",
        description="who proposes; nehvi models the score and knows the price, grid goes through every map, the others "
        "are Optuna's",
    )
    early_stopping: StrictBool = Field(
        False, description="whether to stop proposals, at a ninth and a third of the steps, that the best third beat"
    )
    nested: NestedConfig = Field(NestedConfig(), description="for strategy nested")
    pack: Literal["auto"] | PositiveInt = Field(
        "auto", description="how many maps to train at once; auto: while it pays and memory lasts, by timing steps"
    )
    trial_minutes: PositiveNumber | None = Field(
        None, description="minutes of its own, a pack's shared out, after which a trial fails. Default: no limit"
    )
    max_failures: PositiveInt = Field(3, description="stop after more failed trials in a row than this")

    @model_validator(mode="after")
    def _something_to_repeat(self) -> SearchConfig:
        if self.repeats is not None and self.repeats >= self.trials:
            raise ValueError(f"search.repeats: {self.repeats} of {self.trials} trials leave no map to repeat; lower it")
        return self

    @property
    def repeats_planned(self) -> int:
        """Trials that train a map again."""
        return self.trials // 4 if self.repeats is None else self.repeats

    @property
    def maps(self) -> int:
        """Trials that train a map for the first time."""
        return self.trials - self.repeats_planned


class ExecutorConfig(Section):
    """Where training runs; a study may go on elsewhere."""

    kind: Literal["local", "ray"] = Field(
        "local", description="local: in this process; ray: on the workers of a Ray cluster, or of this machine"
    )
    address: str | None = Field(
        None,
        description="cluster to join, for ray; auto: the one that this machine is part of. Default: start one here",
    )
    workers: PositiveInt | None = Field(
        None, description="packs at once, for ray. Default: as many as the cluster, which may change, has resources for"
    )
    resources: dict[Annotated[str, Field(min_length=1)], PositiveNumber] = Field(
        {"cpu": 1}, min_length=1, description="what each worker takes of the cluster, for ray, such as {gpu: 1}"
    )


class StudyConfig(Section):
    """A whole study file."""

    study: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100, description="name of the study and its folder"
    )
    seed: Seed = Field(0, description="every draw derives from it")
    model: ModelConfig = Field(description="the frozen base model")
    task: AnyTask = Field(description="what the model is to do, on which data")
    space: SpaceConfig = Field(SpaceConfig(), description="what the search may propose")
    adapter: AdapterConfig = Field(AdapterConfig(), description="the LoRA adapters")
    training: TrainingConfig = Field(TrainingConfig(), description="the fine-tune that every proposal gets")
    search: SearchConfig = Field(SearchConfig(), description="the Optuna study")
    executor: ExecutorConfig = Field(ExecutorConfig(), description="where training runs")
    trackers: tuple[Literal["tensorboard", "trackio", "wandb", "mlflow"], ...] = Field(
        (), description="experiment trackers that get each finished trial as a run. Default: none"
    )

    @model_validator(mode="after")
    def _parts_agree(self) -> StudyConfig:
        """What one section says must go with the others: baselines, say, are trained at points of the space."""
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
                    f"space.{name}: {list(bounds)} leaves out {section}.{name} = {value}, at which "
                    "baselines are trained; widen it, or set that"
                )
            if bounds is not None and self.search.sampler == "grid":
                raise ValueError(f"search.sampler: grid cannot go through every value of space.{name}; leave that out")
        if self.training.head_learning_rate is not None and self.task.kind != "classification":
            raise ValueError("training.head_learning_rate: only classifiers have a head; leave it out")
        if self.space.augmentation and self.training.augmentation == "none":
            raise ValueError("space.augmentation: has nothing to switch on; set training.augmentation")
        return self

    @property
    def base_models(self) -> dict[str, ModelSource]:
        """The adapted base models by the prefix of their module names, which is empty when there is one."""
        if isinstance(self.task, RagConfig):
            return {"retriever.": self.task.retriever, "generator.": self.model}
        return {"": self.model}

    def tuned(self, settings: Mapping[str, float]) -> StudyConfig:
        """The same study at a trial's joint settings: learning rate, α, dropout, augmentation."""
        given = dict(settings)
        rates = ("learning_rate", "head_learning_rate")
        training: dict[str, Any] = {key: given.pop(key) for key in rates if key in given}
        if not given.pop("augmentation", 1):
            training["augmentation"] = "none"
        return self.model_copy(
            update={
                "training": self.training.model_copy(update=training),
                "adapter": self.adapter.model_copy(update=given),
            }
        )

    def frozen(self) -> dict[str, Any]:
        """What a study keeps to for life: all but its budget, which may be raised, where it runs and whom it tells."""
        budget = {"trials", "repeats", "verdict_seeds", "trial_minutes", "max_failures", "pack"}
        return self.model_dump(mode="json", exclude={"search": budget, "executor": True, "trackers": True})

    def to_yaml(self) -> str:
        """The resolved study file, defaults written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
