"""The sections of the study file for the search: its space, and the Optuna study."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictInt, field_validator, model_validator

from rank_search.config.fields import Fraction, Number, PositiveInt, PositiveNumber, Section
from rank_search.core.choice import DEFAULT_RULE, Margin, Rule
from rank_search.core.errors import InputError


class SpaceConfig(Section):
    """The search space: what the search may propose."""

    ladder: tuple[Annotated[StrictInt, Field(ge=0)], ...] = Field(
        (0, 1, 2, 4, 8), description="the ranks to choose from, ascending; a module of rank 0 gets no adapter"
    )
    group_by: Literal["auto", "layer", "block", "module"] = Field(
        "auto",
        description="what shares one rank: a layer, a block (attention or feed-forward of a layer), or a single "
        "module; auto: a module where there are no more than 400, else a layer",
    )
    targets: Literal["all-linear", "attention", "feed-forward"] | tuple[str, ...] = Field(
        "all-linear",
        description="modules that get adapters: all linear layers, only attention, only feed-forward, or a list of "
        "names",
    )
    learning_rate: tuple[PositiveNumber, PositiveNumber] | None = Field(
        None, description="[lowest, highest] to search together with the ranks, on a log scale. Default: not searched"
    )
    alpha: tuple[PositiveNumber, PositiveNumber] | None = Field(
        None, description="[lowest, highest] to search together with the ranks, on a log scale. Default: not searched"
    )
    dropout: tuple[Fraction, Fraction] | None = Field(
        None, description="[lowest, highest] to search together with the ranks. Default: not searched"
    )
    prior: str | None = Field(
        None,
        description="file that export --to rank-curve wrote, from the study of another model: the nearest map is "
        "tried after the uniform ones. Default: none",
    )
    augmentation: StrictBool = Field(False, description="whether to search with training.augmentation off and on")

    @field_validator("ladder")
    @classmethod
    def _check_ladder(cls, ladder: tuple[int, ...]) -> tuple[int, ...]:
        if not any(ladder):
            raise ValueError("has no rank above 0; write at least one, such as [0, 1, 2, 4, 8]")
        if list(ladder) != sorted(set(ladder)):
            raise ValueError(f"must ascend without repeats; write {sorted(set(ladder))}")
        return ladder

    @field_validator("targets")
    @classmethod
    def _check_targets(cls, targets: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not targets:
            raise ValueError("is empty; name modules such as [query, value], or write all-linear")
        return targets

    @field_validator("learning_rate", "alpha", "dropout")
    @classmethod
    def _check_range(cls, bounds: tuple[float, float] | None) -> tuple[float, float] | None:
        if bounds is not None and bounds[0] >= bounds[1]:
            raise ValueError("must be [lowest, highest], with lowest below highest")
        return bounds


class ChoiceConfig(Section):
    """Which map of the front is chosen. It may change while a study runs, and after."""

    rule: str = Field(
        DEFAULT_RULE,
        description="the rule: as-good-as-best, within-one-se, best, knee, max-parameters=N or min-score=X",
    )
    margin: str | Number = Field(
        "10%",
        description="the loss of score that a smaller map may have: a share of what fine-tuning gains, such as 10%, or "
        "a number of the metric, such as 0.01",
    )

    @field_validator("rule")
    @classmethod
    def _check_rule(cls, rule: str) -> str:
        try:
            Rule.parse(rule)
        except InputError as error:
            raise ValueError(error.problem) from None
        return rule

    @field_validator("margin")
    @classmethod
    def _check_margin(cls, margin: str | float) -> str | float:
        Margin.parse(margin)
        return margin


class SearchConfig(Section):
    """The Optuna study."""

    trials: PositiveInt = Field(
        24, description="number of finished trials in the space, including uniform maps, repeats and failures"
    )
    repeats: Annotated[StrictInt, Field(ge=0)] | None = Field(
        None,
        description="number of these trials that train maps again, between which the choice is in doubt. Default: a "
        "third",
    )
    baselines: tuple[Literal["svd", "eva", "adalora"], ...] = Field(
        ("svd", "eva", "adalora"),
        description="baselines beside the uniform maps, not counted in trials: svd truncates one training at twice "
        "the ladder's top rank; eva redistributes, and adalora prunes, at each rank of the ladder",
    )
    verdict_seeds: Annotated[StrictInt, Field(ge=0)] = Field(
        10,
        description="number of new seeds, at most, with which the chosen map and its baselines are trained for the "
        "verdict; after 3, 5 and then twice as many it looks whether more are needed",
    )
    tune_uniform: tuple[PositiveNumber, ...] = Field(
        (0.25, 0.5, 2.0, 4.0),
        description="factors of training.learning_rate at which the smallest and the largest uniform rank, and a head, "
        "are trained too before the trials; further ones while the best lies at an edge. Every map is then trained at "
        "the rate of its size. Not done where space.learning_rate is searched; [] leaves it out",
    )
    sampler: Literal["nehvi", "tpe", "gp", "nsga2", "random", "grid"] = Field(
        "nehvi",
        description="the sampler that proposes maps; nehvi models the score and knows the parameter counts, grid "
        "tries every map, the others are Optuna's",
    )
    pack: Literal["auto"] | PositiveInt = Field(
        "auto",
        description="number of maps to train at once; auto: as many as save time and fit in memory, by timing steps",
    )
    trial_minutes: PositiveNumber | None = Field(
        None,
        description="minutes after which a trial fails; the time of a pack is divided among its maps. Default: no "
        "limit",
    )
    max_failures: PositiveInt = Field(3, description="stop the search after more failed trials in a row than this")

    @model_validator(mode="after")
    def _check_repeats(self) -> SearchConfig:
        if self.repeats is not None and self.repeats >= self.trials:
            raise ValueError(f"search.repeats: {self.repeats} of {self.trials} trials leave no map to repeat; lower it")
        return self

    @property
    def repeats_planned(self) -> int:
        """Number of trials that train a map again."""
        return self.trials // 3 if self.repeats is None else self.repeats

    @property
    def maps(self) -> int:
        """Number of trials that train a map for the first time."""
        return self.trials - self.repeats_planned
