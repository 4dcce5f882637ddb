"""``verify``: whether consumers compute what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rank_search.cli.options import JsonOption
from rank_search.cli.output import print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rank_search.app.verify import Verification
    from rank_search.export.manifest import Finding


def verify(
    folder: Annotated[Path, typer.Argument(help="What export wrote.", metavar="DIR")],
    consumer: Annotated[
        list[str] | None,
        typer.Option(help="Try this one only, such as vllm; repeatable. By default: those of the format."),
    ] = None,
    everyone: Annotated[bool, typer.Option("--all", help="Try all that can open the format.")] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that the base model ships.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Checks exported weights as their consumers read them.

    It compares what each consumer computes with what the trained adapter computes. The exit status is 1 if they
    differ.
    """
    from rank_search.app.verify import verify_bundles

    verification = verify_bundles(folder, consumer, everyone=everyone, trust_remote_code=trust_remote_code)
    if as_json:
        print_json(_content(verification))
    else:
        for path, findings in verification.findings.items():
            columns = ("consumer", "version", "", "of the effect", "of the output", "")
            print_table(f"{path}: largest relative difference", columns, _rows(findings))
    if not verification.passed:
        raise typer.Exit(1)


def _content(verification: Verification) -> dict[str, Any]:
    """What ``--json`` prints."""
    bundles = {
        str(path): [finding.model_dump(mode="json") for finding in findings]
        for path, findings in verification.findings.items()
    }
    return {"passed": verification.passed, "bundles": bundles}


def _rows(findings: Sequence[Finding]) -> list[tuple[str, ...]]:
    return [
        (
            finding.consumer,
            finding.version,
            "real" if finding.real else "modelled",
            "" if finding.difference is None else f"{finding.difference:.1e}",
            "" if finding.of_output is None else f"{finding.of_output:.1e}",
            {True: "pass", False: "FAIL", None: "–"}[finding.passed] + (f" {finding.note}" if finding.note else ""),
        )
        for finding in findings
    ]
