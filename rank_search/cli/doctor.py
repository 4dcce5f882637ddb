"""``doctor``: what is wrong with a study."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from rank_search.cli.options import JsonOption, StorageOption, StudyArgument, TrustOption
from rank_search.cli.output import print_json
from rank_search.cli.study import silence_optuna

if TYPE_CHECKING:
    from rank_search.app.doctor import Finding


def doctor(
    study: StudyArgument,
    fix: Annotated[bool, typer.Option("--fix", help="Fix what is safe to fix, and say what was done.")] = False,
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
    findings = examine(study, storage, partial(fingerprints, trust_code=trust_remote_code), fix=fix)
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        print("\n".join(map(_line, findings)) or f"{study}: nothing is wrong")
    if any(not (finding.fixed or finding.harmless) for finding in findings):
        raise typer.Exit(1)


def _line(finding: Finding) -> str:
    line = f"{finding.where}: {finding.problem}"
    if not finding.fix:
        return line
    return f"{line} ({'fixed' if finding.fixed else 'with --fix'}: {finding.fix})"
