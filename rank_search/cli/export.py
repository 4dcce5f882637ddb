"""``export``: a chosen rank map for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rank_search.cli.options import RuleOption, StorageOption, StudyArgument, TrustOption
from rank_search.cli.output import progress_console
from rank_search.cli.study import open_study


def export(
    study: StudyArgument,
    to: Annotated[str, typer.Option(help="A format; see README: peft, compact, padded, gguf, merged, axolotl, trl …")],
    out: Annotated[Path, typer.Option(help="Folder to write; new or empty.")],
    trial: Annotated[int | None, typer.Option(help="Trial to export, instead of a rule's choice.")] = None,
    rule: RuleOption = None,
    force: Annotated[bool, typer.Option("--force", help="Write trained weights that fail their certificate.")] = False,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train the trial again, if the study did not keep its weights.")
    ] = False,
    trust_remote_code: TrustOption = False,
    storage: StorageOption = None,
) -> None:
    """Writes a chosen rank map for other tools.

    The format decides what is written: trained weights, which are verified first, or a configuration for a new
    training.
    """
    from rank_search.app.choose import choose_map, find_trial
    from rank_search.app.export import export_trial
    from rank_search.core.choice import Rule

    parsed = None if rule is None else Rule.parse(rule)
    opened = open_study(study, storage)
    if trial is None:
        picked, _ = choose_map(opened, parsed)
    else:
        picked = find_trial(opened, trial)
    console = progress_console() if retrain else None
    lines = export_trial(opened, picked, to, out, force=force, retrain_on=console, trust_code=trust_remote_code)
    print(f"trial {picked.number} as {to}: {out}")
    for line in lines:
        print(f"  {line}")
