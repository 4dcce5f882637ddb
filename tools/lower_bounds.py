"""Tests the oldest versions that pyproject.toml allows: installs them into a fresh environment, and runs tests there.

    python tools/lower_bounds.py --print                         # the constraints alone
    python tools/lower_bounds.py -- -m "not training" -x         # what comes after -- is pytest's

Every dependency and every extra has exactly its lower bound, but for the distributions of `FREE`; test tools have the
versions of constraints.txt, and what dependencies bring themselves is pip's choice.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ROOT = Path(__file__).parent.parent
OURS = "rank_search"
TOOLS = {"check", "test"}  # extras of developers, whose tools have no bounds

FREE = {
    # PyPI's builds of older versions bring several GB of CUDA libraries, and don't work without them; builds for CPUs
    # lie on PyTorch's own index, which this job does not use. So torch has the version of constraints.txt.
    "torch": "pinned by constraints.txt",
    "bitsandbytes": "needs CUDA",
}


def bounds(project: Mapping[str, Any]) -> dict[str, str]:
    """Distribution → its lower bound, of the dependencies and of the extras for users.

    Args:
        project: the table of that name of pyproject.toml.

    Raises:
        ValueError: a dependency has no lower bound, or two of them.
    """
    found: dict[str, str] = {}
    for requirement in _requirements(project):
        name = canonicalize_name(requirement.name)
        lower = [one.version for one in requirement.specifier if one.operator in (">=", "==", "~=")]
        if len(lower) != 1 or found.setdefault(name, lower[0]) != lower[0]:
            raise ValueError(f"{requirement}: needs one lower bound, the same wherever it stands")
    return found


def constraints(project: Mapping[str, Any], tested: Iterable[str]) -> list[str]:
    """Lines of a constraints file: lower bounds, and for the other distributions the versions that are tested.

    Args:
        project: the table of that name of pyproject.toml.
        tested: lines of constraints.txt.
    """
    lowest = {name: version for name, version in bounds(project).items() if name not in FREE}
    tools = {canonicalize_name(Requirement(line).name) for kind in TOOLS for line in _extras(project)[kind]}
    pinned = [line for line in tested if re.match(r"\w", line)]
    kept = [line for line in pinned if canonicalize_name(Requirement(line).name) in (tools - lowest.keys()) | {"torch"}]
    return sorted([*(f"{name}=={version}" for name, version in lowest.items()), *kept])


def _requirements(project: Mapping[str, Any]) -> Iterator[Requirement]:
    lines = [*project["dependencies"]]
    for name, extra in _extras(project).items():
        lines += extra if name not in TOOLS else ()
    for line in lines:
        requirement = Requirement(line)
        if canonicalize_name(requirement.name) != canonicalize_name(OURS):
            yield requirement


def _extras(project: Mapping[str, Any]) -> Mapping[str, list[str]]:
    extras: Mapping[str, list[str]] = project["optional-dependencies"]
    return extras


def main() -> int:
    """Installs, runs the tests, and returns pytest's exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default="python3.11", help="the oldest that pyproject.toml allows")
    parser.add_argument("--venv", type=Path, default=ROOT / ".cache" / "lower-bounds", help="where to install")
    parser.add_argument("--print", action="store_true", help="print the constraints, and do nothing")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest")
    asked = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = constraints(project, (ROOT / "constraints.txt").read_text().splitlines())
    print("\n".join(lines), flush=True)
    if asked.print:
        return 0
    with TemporaryDirectory() as folder:
        file = Path(folder) / "constraints.txt"
        file.write_text("\n".join(lines) + "\n")
        subprocess.run([asked.python, "-m", "venv", "--clear", asked.venv], check=True)
        pip = [asked.venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-c", file, "-e", f"{ROOT}[test]"], check=True)
    command = [asked.venv / "bin" / "python", "-m", "pytest", *asked.pytest]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
