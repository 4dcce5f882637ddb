"""What a study keeps about itself: the settings, space, data and model that all its trials share.

It is one JSON attribute of the Optuna study, written in one commit: it is there whole or not at all, and it goes
with the study when its storage is moved.
"""

from __future__ import annotations

import json
import os
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, Field, NonNegativeInt, PositiveInt, TypeAdapter, ValidationError

from rank_search.core.errors import InputError, echo
from rank_search.core.space import Space
from rank_search.study.storage import refuse_other_objectives

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna import Study

T = TypeVar("T")

ATTRIBUTE = "rank_search"
SCHEMA = 2  # of this and of the trials' records; rank_search.study.migration describes schema 1
_REMOVED = ("strategy", "nested", "early_stopping")  # settings of the search that older versions had
_MODEL_PLACE = ("source", "revision", "sha256")
_DATA_PLACE = ("source", "config", "revision", "train", "validation", "test")
_PACKAGES = ("rank_search", "torch", "transformers", "peft", "sentence-transformers", "optuna", "botorch", "gpytorch")


@dataclass(frozen=True)
class StudyMetadata:
    """The facts that every trial of a study shares.

    Attributes:
        identity: a random name of this very study, by which its files are distinguished from those of another.
        config: the frozen settings (`StudyConfig.frozen`).
        space: what is searched.
        head: modules that every trial trains whole.
        head_parameters: how many parameters they have; they are not counted among the adapters'.
        classes: names of the classes in the order of their numbers; empty where the task has none.
        cut: kind of text → how many were cut, being longer than the model takes, of how many.
        data_fingerprint: changes with any text or split.
        model_fingerprint: changes with the base model's weights.
        environment: machine and versions that the study was started on.
        notes: what the data loses, what its parts share, what files leave open; empty where a version kept the
            study that did not say.
        model_files: file of a base model beside its weights, such as its tokenizer's → SHA-256; empty where an older
            version of this package started the study.
        schema: version of what is kept.
    """

    identity: str
    config: Mapping[str, Any]
    space: Space
    head: tuple[str, ...]
    head_parameters: int
    classes: tuple[str, ...]
    cut: Mapping[str, tuple[int, int]]
    data_fingerprint: str
    model_fingerprint: str
    environment: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    model_files: Mapping[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    def write(self, study: Study) -> None:
        """Keeps this in the Optuna study."""
        study.set_user_attr(ATTRIBUTE, asdict(self))

    @classmethod
    def read(cls, study: Study) -> StudyMetadata | None:
        """The study's metadata; None when the study was created but never started.

        Raises:
            InputError: a version of this package wrote it that keeps something else, or another program did.
        """
        refuse_other_objectives(study)
        content = study.user_attrs.get(ATTRIBUTE)
        if content is None:
            _refuse_foreign(study)
            return None
        if schema_of(study) == SCHEMA:
            with suppress(KeyError):
                return cls.from_json(_checked(content))
        raise InputError(
            f"the study {study.study_name!r} was started by rank_search {version_of(study)}, which keeps studies in "
            "another form; use that version, or start a study of another name",
            field="STUDY",
        )

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> StudyMetadata:
        """From what `write` keeps.

        Raises:
            KeyError: something is missing, or of a form that can't be read.
        """
        kept = {"notes": (), "model_files": {}, **content}
        kept["config"] = _config_of(content["config"])
        return cls(
            **{
                **{each.name: kept[each.name] for each in fields(cls)},
                "space": Space.from_json(content["space"]),
                "head": tuple(content["head"]),
                "classes": tuple(content["classes"]),
                "notes": tuple(kept["notes"]),
                "cut": {kind: tuple(counts) for kind, counts in content["cut"].items()},
            }
        )


def _config_of(kept: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a study that an older version of this package may have started.

    Raises:
        KeyError: it was searched by nested scores, which this version has not.
    """
    search = {name: value for name, value in kept["search"].items() if name not in _REMOVED}
    if kept["search"].get("strategy") == "nested":
        raise KeyError("strategy")
    return {**kept, "search": search, "task": {"selection_size": 0, **kept["task"]}}


def _refuse_foreign(study: Study) -> None:
    """Checks that a study without our metadata is one of ours that was never started, and so holds nothing.

    Raises:
        InputError: it holds something, so another program keeps it.
    """
    if study.user_attrs or study.get_trials(deepcopy=False):
        raise InputError(
            f"the study {study.study_name!r} in this storage is another program's, such as one of your own Optuna "
            "studies; give this study another name, or name another --storage",
            field="STUDY",
        )


def version_of(study: Study) -> str:
    """The version of this package that started a study of any schema."""
    environment = study.user_attrs.get(ATTRIBUTE, {}).get("environment", {})
    return str(environment.get("versions", {}).get("rank_search", "?"))


def schema_of(study: Study) -> int | None:
    """The version of what an Optuna study keeps; None where it was never started.

    Raises:
        InputError: what it keeps is damaged.
    """
    content = study.user_attrs.get(ATTRIBUTE)
    if content is None:
        return None
    if not isinstance(content, dict) or not isinstance(schema := content.get("schema", 1), int):
        raise _damaged(ATTRIBUTE, content)
    return schema


def study_attribute(study: Study, name: str, kind: TypeAdapter[T]) -> T | None:
    """An attribute of an Optuna study, checked to be of a type; None where it has none of that name.

    Raises:
        InputError: it is of another type.
    """
    if (value := study.user_attrs.get(name)) is None:
        return None
    try:
        return kind.validate_python(value)
    except ValidationError:
        raise _damaged(name, value) from None


class _KeptSpace(BaseModel):
    """What of a space in JSON must be there, of which type."""

    shapes: dict[str, tuple[PositiveInt, PositiveInt]] = Field(min_length=1)
    dimensions: dict[str, Annotated[list[str], Field(min_length=1)]] = Field(min_length=1)
    ladder: list[NonNegativeInt] = Field(min_length=1)
    joint: dict[str, dict[str, float]]
    transposed: list[str]


class _Kept(BaseModel):
    """What of a study's metadata in JSON must be there, of which type."""

    identity: str
    config: dict[str, Any]
    space: _KeptSpace
    head: list[str]
    head_parameters: NonNegativeInt
    classes: list[str]
    cut: dict[str, tuple[NonNegativeInt, NonNegativeInt]]
    data_fingerprint: str
    model_fingerprint: str
    environment: dict[str, Any]
    model_files: dict[str, str] = {}


def _checked(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The content, in which what is there is of its type.

    Raises:
        InputError: it is not.
        KeyError: something is missing.
    """
    try:
        _Kept.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "missing":
            raise KeyError(*first["loc"]) from None
        raise _damaged(".".join(map(str, first["loc"])), first["input"]) from None
    config = content["config"]
    for section, key in (("task", "metric"), ("task", "kind"), ("model", "source")):
        if not isinstance(value := dict(config.get(section) or {}).get(key), str):
            raise _damaged(f"config.{section}.{key}", value)
    return content


def _damaged(field: str, value: object) -> InputError:
    return InputError(f"is {echo(value)}, which is never written; restore the database from a copy", field=field)


def environment(device: str) -> dict[str, Any]:
    """The machine and the versions in use, for the record."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device,
        "cpus": os.cpu_count(),
        "versions": {package: version(package) for package in _PACKAGES},
    }


def has_moved(kept: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Whether two settings name other places for the data or the base models, or choose another map."""
    return _split(kept)[1] != _split(given)[1]


def refuse_changed_settings(kept: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Checks that two settings are the same but for the choice of a map and the places of data and base models.

    What lies there is compared by its fingerprint: a study goes on with a copy of the same data or model.

    Raises:
        InputError: naming the first field that differs.
    """
    refuse_change(_split(kept)[0], _split(given)[0])


def _split(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings that can't change, and those that may: the choice, and the places of data and base models, by field."""
    settings: dict[str, Any] = json.loads(json.dumps(config))
    places: dict[str, Any] = {"choice": settings.pop("choice", None)}
    sections = {
        "model": (settings.get("model"), _MODEL_PLACE),
        "task.retriever": (settings.get("task", {}).get("retriever"), _MODEL_PLACE),
        "task.data": (settings.get("task", {}).get("data"), _DATA_PLACE),
    }
    for name, (section, fields_) in sections.items():
        places |= {f"{name}.{key}": section.pop(key, None) for key in fields_} if section else {}
    return settings, places


def refuse_change(kept: Any, given: Any, field: str = "") -> None:
    """Checks that two settings are the same.

    Raises:
        InputError: naming the first field that differs.
    """
    if isinstance(kept, dict) and isinstance(given, dict):
        for name in {**kept, **given}:
            refuse_change(kept.get(name), given.get(name), f"{field}.{name}" if field else name)
    elif kept != given:
        raise InputError(
            f"is {echo(given)}, but the study was started with {echo(kept)}; restore it, or give the study another "
            "name",
            field=field,
        )
