"""``doctor``: what is wrong with a study."""

from __future__ import annotations

import sys
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from rank_search.cli.options import JsonOption, StorageOption, StudyArgument, TrustOption
from rank_search.cli.output import print_json
from rank_search.cli.study import silence_optuna
from rank_search.core.errors import printable

if TYPE_CHECKING:
    from rank_search.app.doctor import Finding


def doctor(
    study: StudyArgument,
    fix: Annotated[
        bool, typer.Option("--fix", help="Move what is damaged, or belongs to no trial, to quarantine/.")
    ] = False,
    trust_remote_code: TrustOption = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Checks a study for damage.

    It looks at the study's database, files, leases, data and base model. The exit status is 1 if anything is wrong.
    """
    from rank_search.app.doctor import examine
    from rank_search.app.loading import fingerprints

    silence_optuna()
    announce = partial(print, file=sys.stderr if as_json else sys.stdout, flush=True)
    findings = examine(
        study,
        storage,
        partial(fingerprints, trust_code=trust_remote_code),
        fix=fix,
        on_fix=lambda finding: announce(_line(finding, "now")),
    )
    left = [finding for finding in findings if not finding.fixed]
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    elif left or not findings:
        print("\n".join(_line(finding, "with --fix") for finding in left) or f"{study}: nothing is wrong")
    if any(not (finding.fixed or finding.harmless) for finding in findings):
        raise typer.Exit(1)


def _line(finding: Finding, when: str) -> str:
    fix = f" ({when}: {finding.fix})" if finding.fix else ""
    return printable(f"{finding.where}: {finding.problem}{fix}")
