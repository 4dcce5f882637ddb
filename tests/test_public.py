"""The public surface: what `import rank_search` offers, and what it costs; tests/app/test_results.py is of `load`."""

import inspect
import subprocess
import sys
from importlib.metadata import version
from types import ModuleType

import pytest

import rank_search
from tests.conftest import ROOT

SLOW = ("torch", "transformers", "peft", "optuna", "pandas", "numpy", "pydantic", "yaml", "rich", "typer")
LANGUAGE = {"TYPE_CHECKING", "annotations"}  # what a typed module needs


def test_public_names_are_spelled_out_in_order() -> None:
    assert rank_search.__all__ == sorted(rank_search.__all__)
    assert len(rank_search.__all__) == len(set(rank_search.__all__))


def test_no_other_public_name_leaks() -> None:
    names = {
        name
        for name, value in vars(rank_search).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert names - LANGUAGE == set(rank_search.__all__)


@pytest.mark.parametrize("name", rank_search.__all__)
def test_a_public_name_is_ours_and_says_what_it_is(name) -> None:
    public = getattr(rank_search, name)
    assert public.__module__.partition(".")[0] == "rank_search"
    assert public.__name__ == name
    assert inspect.getdoc(public) == inspect.cleandoc(public.__doc__)  # its own, and not that of a base class


def test_star_import_brings_the_public_names_alone() -> None:
    brought: dict[str, object] = {}
    exec("from rank_search import *", brought)
    assert brought.keys() - {"__builtins__"} == set(rank_search.__all__)


def test_errors_are_caught_by_their_common_class() -> None:
    assert issubclass(rank_search.InputError, rank_search.RankSearchError)
    assert issubclass(rank_search.SearchStopped, rank_search.RankSearchError)


def test_import_loads_nothing_that_is_slow() -> None:
    script = "import sys, rank_search; rank_search.load; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert "rank_search.core.errors" in loaded
    assert not loaded.intersection(SLOW)
    assert {name.split(".")[1] for name in loaded if name.startswith("rank_search.")} == {"core"}


def test_version_is_that_of_the_distribution() -> None:
    assert rank_search.__version__ == version("rank_search")
