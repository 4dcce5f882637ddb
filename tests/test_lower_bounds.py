"""The constraints that hold every dependency to its lower bound."""

import tomllib

import pytest

from tests.conftest import ROOT
from tools.lower_bounds import FREE, bounds, constraints

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def project(*dependencies: str, **extras: list[str]) -> dict:
    return {"dependencies": list(dependencies), "optional-dependencies": {"test": [], "check": [], **extras}}


def test_bounds_are_those_of_dependencies_and_extras() -> None:
    given = project("Torch>=2.7", "psycopg[binary]>=3.2,<4", report=["plotly>=6.0"], demo=["rank_search[report]"])
    assert bounds(given) == {"torch": "2.7", "psycopg": "3.2", "plotly": "6.0"}


@pytest.mark.parametrize(
    "given", [project("numpy"), project("numpy<3"), project("numpy>=1", report=["numpy>=2"])], ids=["none", "<", "two"]
)
def test_a_dependency_has_one_lower_bound(given) -> None:
    with pytest.raises(ValueError, match=r"numpy.*: needs one lower bound"):
        bounds(given)


def test_tools_and_torch_have_the_versions_of_constraints_txt() -> None:
    given = project("torch>=2.7", "numpy>=2.0", test=["pytest"])
    lines = ["# a comment", "torch==2.13.0", "numpy==2.4.6", "pytest==9.2.0", "pyarrow==26.0.1"]
    assert constraints(given, lines) == ["numpy==2.0", "pytest==9.2.0", "torch==2.13.0"]


def test_pyproject_has_a_bound_for_every_dependency_but_tools() -> None:
    lines = constraints(PROJECT, (ROOT / "constraints.txt").read_text().splitlines())
    held = {line.partition("==")[0] for line in lines}
    assert bounds(PROJECT).keys() - held <= FREE.keys()
