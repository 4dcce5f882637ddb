"""``schema``: what a study file may hold."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def schema(
    template: Annotated[bool, typer.Option("--template", help="Print a commented study file instead.")] = False,
) -> None:
    """Prints the JSON schema of the study file."""
    from rank_search.config import StudyConfig
    from rank_search.config.template import template as commented

    text = commented() if template else json.dumps(StudyConfig.model_json_schema(), indent=2)
    print(text.rstrip())
