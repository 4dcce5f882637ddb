"""The study file: every setting of a study, typed, and the one place where it is checked.

What can only be checked against the model (target names, ranks that a module is too small for) is
checked in `rank_search.space`, in the same words.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
    field_validator,
)

from rank_search.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("is no number; write one")
    return value


PositiveInt = Annotated[StrictInt, Field(gt=0)]
# Text is let through to pydantic: YAML 1.1 reads 2e-3, without a point, as text.
Number = Annotated[float, BeforeValidator(_no_bool)]
PositiveNumber = Annotated[Number, Field(gt=0)]
Fraction = Annotated[Number, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A part of the study file: frozen, and refusing keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelConfig(Section):
    """The frozen base model."""

    source: str = Field(description="hub id, folder, or package:NAME/SUBDIR")
    revision: str | None = Field(None, description="branch, tag or commit of a hub id")
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$", description="checksum that model.safetensors must have")
    trust_remote_code: StrictBool = Field(False, description="run Python code that the model ships")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to train")


class RetrievalConfig(Section):
    """Sentence embedding for search: a query must find its own document."""

    kind: Literal["retrieval"]
    data: Literal["builtin:python-stdlib"] = Field(
        "builtin:python-stdlib", description="code search over the running interpreter's library"
    )
    metric: Literal["ndcg@10", "mrr@10", "recall@1", "recall@5", "recall@10"] = Field(
        "ndcg@10", description="the score that the search maximises"
    )
    validation_size: PositiveInt = Field(500, description="at most this many pairs to choose on")
    test_size: PositiveInt = Field(500, description="at most this many pairs to report on")
    query_length: PositiveInt | None = Field(
        None, description="tokens; longer queries are cut. Default: the model's own limit"
    )
    document_length: PositiveInt | None = Field(
        None, description="tokens; longer documents are cut. Default: the model's own limit"
    )
    similarity_scale: PositiveNumber = Field(
        20.0, description="factor on cosine similarities in the loss (1 / temperature)"
    )


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


class InitConfig(Section):
    """How A starts; B starts at zero, so a fresh adapter changes nothing."""

    method: Literal["gaussian", "kaiming", "eva"] = Field("kaiming", description="law of A")
    std: PositiveNumber = Field(0.02, description="standard deviation, for gaussian")


class AdapterConfig(Section):
    """The LoRA adapters: h = W x + s · B A x."""

    scale: Literal["rslora", "alpha/r", "constant"] = Field(
        "rslora", description="s = α/√r (arXiv:2312.03732), α/r (LoRA), or α itself at every rank"
    )
    alpha: PositiveNumber = Field(4.0, description="the α of the scale rule")
    dropout: Fraction = Field(0.0, description="dropout on the adapter's input")
    init: InitConfig = Field(InitConfig(), description="how A starts")


class TrainingConfig(Section):
    """The fine-tune that every proposal gets."""

    steps: PositiveInt = Field(60, description="optimiser steps")
    batch_size: PositiveInt = Field(16, description="examples a step")
    eval_batch_size: PositiveInt = Field(64, description="texts at once in evaluation")
    learning_rate: PositiveNumber = Field(2e-3, description="AdamW's peak learning rate")
    weight_decay: Annotated[Number, Field(ge=0)] = Field(0.0, description="AdamW's weight decay")
    warmup: Fraction = Field(0.1, description="share of the steps with rising learning rate")
    max_grad_norm: PositiveNumber = Field(1.0, description="gradients are clipped to this norm")
    autocast: Literal["auto", "bf16", "off"] = Field(
        "auto", description="bf16 in training; auto: where the device has them in hardware"
    )


class SearchConfig(Section):
    """The Optuna study."""

    trials: PositiveInt = Field(17, description="finished trials to reach, baselines and failures included")
    sampler: Literal["tpe", "gp", "nsga2", "random"] = Field("tpe", description="who proposes")
    max_failures: PositiveInt = Field(3, description="stop after more failed trials in a row than this")


class StudyConfig(Section):
    """A whole study file."""

    study: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100, description="name of the study and its folder"
    )
    seed: Annotated[StrictInt, Field(ge=0, lt=2**32)] = Field(0, description="every draw derives from it")
    model: ModelConfig
    task: RetrievalConfig
    space: SpaceConfig = SpaceConfig()
    adapter: AdapterConfig = AdapterConfig()
    training: TrainingConfig = TrainingConfig()
    search: SearchConfig = SearchConfig()

    def frozen(self) -> dict[str, Any]:
        """What a study keeps to for life: everything but its budget, which a later run may raise."""
        return self.model_dump(mode="json", exclude={"search": {"trials", "max_failures"}})

    def to_yaml(self) -> str:
        """The resolved study file, defaults written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load_config(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Reads a study file and applies ``section.field=value`` overrides to it.

    Raises:
        InputError: the file is missing, is not YAML, or holds something wrong.
    """
    settings = _read_yaml(path)
    for override in overrides:
        _apply(override, settings)
    try:
        return StudyConfig.model_validate(settings)
    except ValidationError as error:
        field, problem = _explain(error)
        raise InputError(problem, field=field, file=source_of(field, path, overrides)) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such file; name a study file, or leave it out for the demo", file=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"can't be read ({error}); give a UTF-8 YAML file", file=str(path)) from None
    except yaml.YAMLError as error:
        raise InputError(f"is not YAML ({error}); mend the syntax", file=str(path)) from None
    if not isinstance(settings, dict):
        raise InputError("holds no settings; it must be a YAML mapping with study, model and task", file=str(path))
    return settings


def _apply(override: str, settings: dict[str, Any]) -> None:
    """Writes one ``a.b=value`` into the settings."""
    field, equals, text = override.partition("=")
    if not equals or not field:
        raise InputError(f"{override!r} must read section.field=value, such as search.trials=40", file="--set")
    *sections, last = field.split(".")
    target = settings
    for section in sections:
        inner = target.setdefault(section, {})
        if not isinstance(inner, dict):
            raise InputError(f"{section!r} holds a value, not fields", field=field, file="--set")
        target = inner
    try:
        target[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"{text!r} is not a YAML value", field=field, file="--set") from None


def source_of(field: str, path: Path, overrides: Sequence[str]) -> str:
    """Where a field's value comes from, for an error about it: ``--set``, or the study file."""
    overridden = any(_one_holds_the_other(field, override.partition("=")[0]) for override in overrides)
    return "--set" if overridden else str(path)


def _one_holds_the_other(field: str, other: str) -> bool:
    return f"{field}.".startswith(f"{other}.") or f"{other}.".startswith(f"{field}.")


def _explain(error: ValidationError) -> tuple[str, str]:
    """Dotted field and one line for the first thing that is wrong."""
    # A wrong key explains the missing one beside it, so unknown keys come first.
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    # pydantic names the members of a union in the path; no key of ours looks like these.
    path = [part for part in first["loc"] if not str(part).startswith(("literal[", "tuple["))]
    field = ".".join(str(part) for part in path)
    value = list(first["input"]) if isinstance(first["input"], tuple) else first["input"]
    if first["type"] == "extra_forbidden":
        return field, f"unknown key; {did_you_mean(str(path[-1]), _known_keys(path[:-1]))}"
    if first["type"] == "missing":
        return field, "is missing; add it"
    if first["type"] == "value_error":
        return field, f"{value!r} {first['ctx']['error']}"
    if first["type"] == "model_type":
        return field, f"{value!r} is wrong: it holds fields ({', '.join(_known_keys(path))})"
    if first["type"] == "tuple_type":
        return field, f"{value!r} is wrong: it must be a list"
    return field, f"{value!r} is wrong: {first['msg'][0].lower()}{first['msg'][1:]}"


def _known_keys(sections: Sequence[str | int]) -> list[str]:
    model: type[BaseModel] = StudyConfig
    for section in sections:
        annotation = model.model_fields[str(section)].annotation
        candidates = (annotation, *get_args(annotation))
        model = next(kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel))
    return list(model.model_fields)
