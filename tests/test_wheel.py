"""The wheel, in an empty environment and an empty folder."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.long


def check(*command: str, cwd: Path, status: int = 0) -> str:
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=clean_environment())
    assert result.returncode == status, result.stdout + result.stderr
    return result.stderr


def clean_environment() -> dict[str, str]:
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "PYTEST_CURRENT_TEST")
    return {name: value for name, value in os.environ.items() if name not in hidden}


def test_wheel_runs_in_an_empty_folder(tmp_path) -> None:
    check(sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path / "dist"), str(ROOT), cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"rank_search/configs/{path.name}" for path in (ROOT / "configs").iterdir()} <= set(names)
    assert "rank_search/py.typed" in names
    assert not any(name.startswith(("tests/", "tools/", "configs/")) for name in names)

    check(sys.executable, "-m", "venv", "env", cwd=tmp_path)
    python = str(tmp_path / "env" / "bin" / "python")
    install = (python, "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"))
    check(*install, str(wheel), cwd=tmp_path)

    empty = tmp_path / "empty"
    empty.mkdir()
    # Without extras: what needs none works, and the demo is refused before it writes anything.
    check(python, "-c", "import rank_search", cwd=empty)
    check(python, "-m", "rank_search", "--help", cwd=empty)
    assert "rank_search[demo]" in check(python, "-m", "rank_search", "run", cwd=empty, status=2)
    assert not list(empty.iterdir())

    check(*install, f"{wheel}[demo]", cwd=tmp_path)
    check(python, "-m", "rank_search", "plan", cwd=empty)
    # The fourth map is the first that is proposed by a model of the score.
    cheap = [
        "search.trials=4",
        "search.repeats=0",
        "search.baselines=[]",
        "search.verdict_seeds=0",
        "search.tune_uniform=[]",
        "space.ladder=[0, 1]",
    ]
    cheap += ["training.steps=5", "task.validation_size=80", "task.test_size=40", "task.selection_size=0"]
    check(python, "-m", "rank_search", "run", *(f"--set={setting}" for setting in cheap), cwd=empty)
    summary = json.loads((empty / "reports" / "demo" / "summary.json").read_text())
    assert [trial["state"] for trial in summary["trials"]] == ["COMPLETE"] * 4
    check(str(tmp_path / "env" / "bin" / "rank-search"), "status", "demo", cwd=empty)
