"""The benchmarks run; what they measure is not asserted here."""

import json
import subprocess
import sys

from tests.conftest import ROOT, SMALL


def test_seed_noise(tmp_path) -> None:
    script = str(ROOT / "benchmarks" / "seed_noise.py")
    result = subprocess.run(
        [sys.executable, script, "--seeds", "2", *SMALL], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    printed = json.loads(result.stdout)
    assert printed.keys() == json.loads((ROOT / "benchmarks" / "seed_noise.json").read_text()).keys()
    assert len(printed["common_batches"]["scores"]) == len(printed["own_batches"]["scores"]) == 2


def test_tasks_table(demo) -> None:
    """From the report of the small demo: its scores stand in the row."""
    script = str(ROOT / "benchmarks" / "tasks_table.py")
    result = subprocess.run(
        [sys.executable, script, "demo"], cwd=demo.folder, capture_output=True, text=True, check=True
    )
    summary = json.loads((demo.folder / "reports" / "demo" / "summary.json").read_text())
    (row,) = (line for line in result.stdout.splitlines() if line.startswith("| demo |"))
    assert f"| {summary['trials'][0]['score']:.4f} |" in row
    assert f"| {summary['test']['chosen']:.4f} |" in row
    assert summary["verdict"]["text"] in result.stdout


def test_search_cost(tmp_path) -> None:
    """All of it, with three steps a fine-tune: every contender trains, and the curves are written."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    script = str(ROOT / "benchmarks" / "search_cost.py")
    line = [sys.executable, script, "--rounds", "1", "--trials", "2", "--steps", "2", "--small"]
    subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True)
    out = tmp_path / "reports" / "benchmarks"
    result = json.loads((out / "search_cost.json").read_text())
    assert set(result["throughput"]["training_speed_against_b"]) == {"a", "b", "c", "d"}
    assert len(result["a: Optuna TPE and Trainer"]["curve"]) == 2
    assert all(len(result[name]) >= 1 for name in ("nested", "nested, warm", "early stopping", "plain"))
    assert set(result["time to hypervolume"]) == {"own scores", "trained again"}
    assert (out / "search_cost.png").is_file()
