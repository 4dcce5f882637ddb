"""The sections of the study file for the LoRA adapters and their training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rank_search.config.fields import Fraction, Number, PositiveInt, PositiveNumber, Section


class InitConfig(Section):
    """Initial values of A; B starts at zero, so a new adapter changes nothing."""

    method: Literal["gaussian", "kaiming", "eva"] = Field("kaiming", description="distribution of A")
    std: PositiveNumber = Field(0.02, description="standard deviation, only for gaussian")


class AdapterConfig(Section):
    """The LoRA adapters: h = W x + s · B A x."""

    scale: Literal["rslora", "alpha/r", "constant"] = Field(
        "rslora", description="scale rule: s = α/√r (arXiv:2312.03732), α/r (LoRA), or α itself at every rank"
    )
    alpha: PositiveNumber = Field(4.0, description="the α of the scale rule")
    dropout: Fraction = Field(0.0, description="dropout on the adapter's input")
    init: InitConfig = Field(InitConfig(), description="initial values of A")


class TrainingConfig(Section):
    """The fine-tuning of every proposal."""

    steps: PositiveInt = Field(60, description="optimiser steps")
    batch_size: PositiveInt = Field(16, description="examples per step")
    eval_batch_size: PositiveInt = Field(
        64, description="texts per batch in evaluation, counted over all maps of a pack"
    )
    learning_rate: PositiveNumber = Field(2e-3, description="AdamW's peak learning rate")
    head_learning_rate: PositiveNumber | None = Field(
        None, description="peak learning rate of a classifier's head, which is new. Default: learning_rate"
    )
    weight_decay: Annotated[Number, Field(ge=0)] = Field(0.0, description="AdamW's weight decay")
    warmup: Fraction = Field(0.1, description="share of the steps in which the learning rate rises")
    max_grad_norm: PositiveNumber = Field(
        1.0, description="norm to which the gradients of a base model's adapters are clipped"
    )
    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto",
        description="type in which a float32 base model computes during training; auto: bfloat16 if the hardware "
        "supports it. Adapters are stored in float32, and final scores are computed in float32",
    )
    augmentation: str = Field(
        "none",
        pattern=r"^(none|token-dropout|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$",
        description="augmentation of the training inputs: none, token-dropout, or your own function as "
        "module:function, which is called with a text and a random.Random and returns a text",
    )
    token_dropout: Fraction = Field(0.1, description="probability of dropping a word, only for token-dropout")

    @property
    def names_code(self) -> bool:
        """Whether the augmentation is a function of the user's own."""
        return ":" in self.augmentation

    @property
    def rate_of_head(self) -> float:
        """The peak learning rate of the head."""
        return self.head_learning_rate or self.learning_rate

    def with_adapters_at(self, factor: float) -> TrainingConfig:
        """The same training with the learning rate of the adapters times ``factor``; the head's rate is unchanged."""
        return self.model_copy(
            update={"learning_rate": factor * self.learning_rate, "head_learning_rate": self.rate_of_head}
        )
