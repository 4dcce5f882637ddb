"""Reads a study file with its overrides, and reports an error in one line."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import TYPE_CHECKING, Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from rank_search.config.study import StudyConfig
from rank_search.core.errors import InputError, did_you_mean, echo

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydantic_core import ErrorDetails


_LARGEST_FILE = 2**20  # bytes; study files have some 2,000
_MOST_VALUES = 100_000  # of a study file, aliases counted as often as they are used
_DEEPEST = 100  # brackets in brackets
_TOO_DEEP = "it is nested too deeply"
_LONGEST_REASON, _LONGEST_KEY = 300, 100  # characters that a message repeats


def load_config(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Reads a study file and applies ``section.field=value`` overrides to it.

    Raises:
        InputError: the file is missing or is not YAML, or a setting is wrong.
    """
    settings = _read_yaml(path)
    for override in overrides:
        _apply(override, settings)
    try:
        return StudyConfig.model_validate(settings)
    except ValidationError as error:
        field, problem = explain(error)
        raise InputError(problem, field=field, file=source_of(field, path, overrides)) from None


class _Loader(yaml.SafeLoader):
    """The loader of `yaml.safe_load`, but it refuses duplicate keys, of which PyYAML silently keeps the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if repeated := [key for key, count in keys.items() if count > 1]:
            raise yaml.MarkedYAMLError(problem=f"{echo(repeated[0])} is written twice", problem_mark=node.start_mark)
        return node

    def fetch_flow_collection_start(self, token: Any) -> None:
        if self.flow_level >= _DEEPEST:  # each bracket takes PyYAML as long as all that are open
            raise yaml.MarkedYAMLError(problem=_TOO_DEEP)
        super().fetch_flow_collection_start(token)

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None and _size(node, {}) > _MOST_VALUES:
            raise yaml.MarkedYAMLError(problem=f"its aliases stand for more than {_MOST_VALUES:,} values")
        return node


def _size(node: yaml.Node, sizes: dict[int, float]) -> float:
    """How many values a node holds, those that its aliases stand for included; infinity where it holds itself."""
    if (known := sizes.get(id(node))) is not None:
        return known
    sizes[id(node)] = math.inf  # found again below itself
    inner = node.value if not isinstance(node, yaml.ScalarNode) else []
    parts = itertools.chain.from_iterable(inner) if isinstance(node, yaml.MappingNode) else inner
    sizes[id(node)] = 1 + sum(_size(part, sizes) for part in parts)
    return sizes[id(node)]


def _parse(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        ValueError: it is none, in one line.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506  # _Loader is a safe loader
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except Exception as error:  # PyYAML lets out what Python raises at a wrong date, or a number of 5,000 digits
        reason = " ".join(str(error).split())
        raise ValueError(reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}…") from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise InputError(f"is larger than {_LARGEST_FILE // 2**20} MiB; name a study file", file=str(path))
        settings = _parse(content.decode("utf-8"))
    except FileNotFoundError:
        raise InputError("no such file; name a study file, or leave it out to run the demo", file=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.reason
        raise InputError(f"can't be read ({reason}); give a UTF-8 YAML file", file=str(path)) from None
    except ValueError as error:
        raise InputError(f"is not YAML ({error}); fix the syntax", file=str(path)) from None
    if not isinstance(settings, dict):
        raise InputError("holds no settings; it must be a YAML mapping with study, model and task", file=str(path))
    return settings


def _apply(override: str, settings: dict[str, Any]) -> None:
    """Writes one ``a.b=value`` into the settings."""
    field, equals, text = override.partition("=")
    if not equals or not field:
        raise InputError(f"{echo(override)} must read section.field=value, such as search.trials=40", file="--set")
    *sections, last = field.split(".")
    target = settings
    for section in sections:
        inner = target.setdefault(section, {})
        if not isinstance(inner, dict):
            raise InputError(
                f"{section!r} holds a value, not fields; set a field of a section", field=field, file="--set"
            )
        target = inner
    try:
        target[last] = _parse(text)
    except ValueError as error:
        problem = f"{echo(text)} is not a YAML value ({error}); fix the syntax"
        raise InputError(problem, field=field, file="--set") from None


def source_of(field: str, path: Path, overrides: Sequence[str]) -> str:
    """The source of a field's value, for an error message: ``--set``, or the study file."""
    overridden = any(_one_contains_the_other(field, override.partition("=")[0]) for override in overrides)
    return "--set" if overridden else str(path)


def _one_contains_the_other(field: str, other: str) -> bool:
    """Whether one dotted field is the other or a section that contains it."""
    return f"{field}.".startswith(f"{other}.") or f"{other}.".startswith(f"{field}.")


def explain(error: ValidationError) -> tuple[str, str]:
    """The dotted field and the problem, in one line, of the first error."""
    # A misspelt key causes both an unknown and a missing key, and the unknown key explains the error better.
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    path = _keys(first["loc"])
    if first["type"].startswith("union_tag"):
        path.append("kind")
    if not path:  # a validator of the whole file found that two sections disagree
        field, _, problem = str(first["ctx"]["error"]).partition(": ")
        return field, problem
    return ".".join(path), _problem(first, path)


def _keys(location: Sequence[str | int]) -> list[str]:
    """The keys of the study file that lead to an error, without the names that pydantic gives to union members."""
    path = [str(part)[:_LONGEST_KEY] for part in location]
    if path[:1] == ["task"] and len(path) > 1:
        del path[1]  # the kind of task
    return [part for part in path if not part.startswith(("literal[", "tuple["))]


def _problem(error: ErrorDetails, path: list[str]) -> str:  # noqa: PLR0911  # one return per kind of error
    """What is wrong with a field and how to fix it."""
    value: Any = list(error["input"]) if isinstance(error["input"], tuple) else error["input"]
    kind = str(error["loc"][1]) if path[0] == "task" and len(error["loc"]) > 1 else None
    match error["type"]:
        case "extra_forbidden":
            return f"unknown key; {did_you_mean(path[-1], _known_keys(path[:-1], kind))}"
        case "missing":
            return "is missing; add it"
        case "union_tag_invalid" | "union_tag_not_found":
            kinds = [name for section in _sections(StudyConfig.model_fields["task"]) if (name := _kind(section))]
            if not isinstance(value, dict) or "kind" not in value:
                return f"is missing; write one of {', '.join(kinds)}"
            return f"{echo(value['kind'])} is wrong: {did_you_mean(str(value['kind'])[:_LONGEST_KEY], kinds)}"
        case "value_error":
            return f"{echo(value)} {error['ctx']['error']}"
        case "model_type" | "model_attributes_type" if path != ["task"]:
            return f"{echo(value)} is wrong: it must hold fields ({', '.join(_known_keys(path, kind))})"
        case "tuple_type":
            return f"{echo(value)} is wrong: it must be a list"
    return f"{echo(value)} is wrong: {error['msg'][0].lower()}{error['msg'][1:]}"


def _known_keys(path: Sequence[str], kind: str | None) -> list[str]:
    """Keys of a section of the study file; ``kind`` is the kind of task."""
    section: type[BaseModel] = StudyConfig
    for key in path:
        sections = _sections(section.model_fields[key])
        section = next((candidate for candidate in sections if kind == _kind(candidate)), sections[0])
    return list(section.model_fields)


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """The section classes in the annotation of a field."""
    annotation = getattr(annotation, "annotation", annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections(part)]


def _kind(section: type[BaseModel]) -> str | None:
    """The kind of task that a section describes; None for other sections."""
    field = section.model_fields.get("kind")
    return get_args(field.annotation)[0] if field else None
