"""Arguments and options that several commands share.

Help must appear at once, so nothing slow is imported here: what the help says of rules is written down a second time,
and a test compares it with `rank_search.core.choice`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEMO = Path("configs/demo.yaml")
RULES = ("as-good-as-best", "within-one-se", "best", "knee", "max-parameters=N", "min-score=X")

ConfigArgument = Annotated[Path, typer.Argument(help="Study file.", metavar="CONFIG")]
StudyArgument = Annotated[str, typer.Argument(help="Name under studies/, or path of a study's folder.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override, such as search.trials=40; repeatable.")]
StorageOption = Annotated[str | None, typer.Option(help="Optuna storage URL instead of the study's SQLite file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code",
        help="Run Python code that the study's record names: the base model's, and training.augmentation.",
    ),
]
RuleOption = Annotated[
    str | None,
    typer.Option(help=f"{', '.join(RULES[:-1])} or {RULES[-1]}.", show_default="choice.rule of the study file"),
]
