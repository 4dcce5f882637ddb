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


def test_verdicts(demo, tmp_path) -> None:
    """From the report of the small demo: its figures stand in the rows."""
    script = str(ROOT / "benchmarks" / "verdicts.py")
    line = [sys.executable, script, "demo", "--out", str(tmp_path / "verdicts.md")]
    subprocess.run(line, cwd=demo.folder, capture_output=True, text=True, check=True)
    summary = json.loads((demo.folder / "reports" / "demo" / "summary.json").read_text())
    written = (tmp_path / "verdicts.md").read_text()
    rows = [line for line in written.splitlines() if line.startswith("|")]
    assert summary["verdict"]["text"] in written
    assert any(f"| {summary['test']['chosen']:.4f} |" in row for row in rows)
    for baseline in summary["baselines"]:
        (row,) = (row for row in rows if row.startswith(f"| {baseline['kind']} | {baseline['scored']} of"))
        assert baseline["missing"] in row
    assert len({row.count("|") for row in rows if row.startswith("| [demo]")}) == 1


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
