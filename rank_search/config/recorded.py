"""The study file as the record of a study holds it.

A record may come from elsewhere, as a study is a folder that people send each other. So a record can't have code run:
only a study file, or an option, that the user gives now can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rank_search.config.load import explain
from rank_search.config.study import StudyConfig
from rank_search.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rank_search.config.models import ModelSource

TRUST_OPTION = "--trust-remote-code"


def recorded(content: Mapping[str, Any], *, trust_code: bool = False) -> StudyConfig:
    """The settings that a study's record holds; those that would run code are off.

    Args:
        content: what `StudyConfig.frozen` returned.
        trust_code: the user said just now that the code that the record names may run, so these settings stay on.

    Raises:
        InputError: another version of this package wrote the settings, or they are damaged.
    """
    config = _validated(content)
    return config if trust_code else _without_code(config)


def refuse_model_code(content: Mapping[str, Any], *, trust_code: bool) -> None:
    """Checks that the base models of a record can be loaded without code that nobody trusts.

    Without that code transformers could load another implementation of the same model.

    Raises:
        InputError: a model runs Python code that comes with it, and the user does not trust it.
    """
    for field, model in _models(_validated(content)).items():
        if model.trust_remote_code and not trust_code:
            raise InputError(
                f"the record of the study wants to run Python code of the model {model.source!r}; if you trust that "
                f"code, add {TRUST_OPTION}",
                field=f"{field}.trust_remote_code",
            )


def refuse_code(content: Mapping[str, Any], *, trust_code: bool) -> None:
    """Checks that a record can be trained again without code that nobody trusts.

    Raises:
        InputError: a model runs Python code that comes with it, or ``training.augmentation`` names a function, and the
            user does not trust it.
    """
    refuse_model_code(content, trust_code=trust_code)
    training = _validated(content).training
    if training.names_code and not trust_code:
        raise InputError(
            f"the record of the study wants to run the Python function {training.augmentation!r}; if you trust that "
            f"code, add {TRUST_OPTION}",
            field="training.augmentation",
        )


def _validated(content: Mapping[str, Any]) -> StudyConfig:
    """The settings, checked.

    Raises:
        InputError: another version of this package wrote them, or they are damaged.
    """
    try:
        return StudyConfig.model_validate(content)
    except ValidationError as error:
        field, problem = explain(error)
        raise InputError(f"of the study's record: {problem}", field=field) from None


def _models(config: StudyConfig) -> dict[str, ModelSource]:
    """Field of the study file → the model that it names."""
    retriever: ModelSource | None = getattr(config.task, "retriever", None)
    return {"model": config.model, **({"task.retriever": retriever} if retriever else {})}


def _without_code(config: StudyConfig) -> StudyConfig:
    untrusted = {"trust_remote_code": False}
    changes: dict[str, Any] = {"model": config.model.model_copy(update=untrusted)}
    if (retriever := getattr(config.task, "retriever", None)) is not None:
        changes["task"] = config.task.model_copy(update={"retriever": retriever.model_copy(update=untrusted)})
    if config.training.names_code:
        changes["training"] = config.training.model_copy(update={"augmentation": "none"})
    return config.model_copy(update=changes)
