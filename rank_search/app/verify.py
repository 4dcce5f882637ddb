"""Verifies what `export` wrote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rank_search.export.certificate import bundles, verify

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rank_search.export.manifest import Finding


@dataclass(frozen=True)
class Verification:
    """What consumers compute with the bundles of a folder.

    Attributes:
        findings: bundle → one finding for each consumer that was tried.
        passed: no consumer failed, and every bundle has a consumer that passed.
    """

    findings: Mapping[Path, Sequence[Finding]]
    passed: bool


def verify_bundles(
    folder: Path, consumers: Sequence[str] | None = None, *, everyone: bool = False, trust_remote_code: bool = False
) -> Verification:
    """Computes what consumers make of the bundles in a folder.

    Args:
        folder: a folder that export wrote.
        consumers: labels of the consumers to try; by default those that the format is for.
        everyone: try every consumer that can open the format, not those of ``consumers`` alone.
        trust_remote_code: run Python code that the base model ships.

    Raises:
        InputError: the folder holds no bundle, a bundle is damaged, or there is no such consumer.
    """
    names = [] if everyone else consumers
    findings = {path: verify(path, names, trust_remote_code=trust_remote_code) for path in bundles(folder)}
    # A consumer that the user named must pass; others may have no support for such a model (None). A bundle that no
    # consumer can read proves nothing.
    failures = (False, None) if consumers else (False,)
    passed = all(
        any(finding.passed for finding in found) and not any(finding.passed in failures for finding in found)
        for found in findings.values()
    )
    return Verification(findings, passed)
