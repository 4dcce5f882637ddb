"""The benchmarks run; what they measure is not asserted here."""

import json

import pytest

from tests.browser import chromium
from tests.conftest import ROOT, SMALL, missing, small_run
from tests.processes import script

pytestmark = [pytest.mark.training, pytest.mark.benchmarks]


def benchmark(name, folder, *arguments):
    return script(ROOT / "benchmarks" / name, folder, *arguments)


def test_seed_noise(tmp_path) -> None:
    printed = json.loads(benchmark("seed_noise.py", tmp_path, "--seeds", "2", *SMALL))
    assert printed.keys() == json.loads((ROOT / "benchmarks" / "seed_noise.json").read_text()).keys()
    assert len(printed["common_batches"]["scores"]) == len(printed["own_batches"]["scores"]) == 2


def test_verdicts(demo, tmp_path) -> None:
    """From the report of the small demo: its figures stand in the rows."""
    benchmark("verdicts.py", demo.folder, "demo", "--out", str(tmp_path / "verdicts.md"))
    summary = json.loads((demo.folder / "reports" / "demo" / "summary.json").read_text())
    written = (tmp_path / "verdicts.md").read_text()
    rows = [line for line in written.splitlines() if line.startswith("|")]
    assert summary["verdict"]["text"] in written
    assert any(f"| {summary['test']['chosen']:.4f} |" in row for row in rows)
    for baseline in summary["baselines"]:
        (row,) = (row for row in rows if row.startswith(f"| {baseline['kind']} | {baseline['scored']} of"))
        assert baseline["missing"] in row
    assert len({row.count("|") for row in rows if row.startswith("| [demo]")}) == 1


def test_export(demo) -> None:
    """Every consumer reads every bundle of the small demo."""
    benchmark("export.py", demo.folder, "demo", "--out", "reports/export.md")
    written = (demo.folder / "reports" / "export.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in written.splitlines() if line.startswith("|")]
    (header,) = (row for row in rows if row[0] == "consumer")
    assert header[2:] == ["peft", "compact", "padded", "gguf", "merged"]
    cells = {row[0]: dict(zip(header[2:], row[2:], strict=True)) for row in rows[2:] if len(row) == len(header)}
    assert {name.split()[0] for name in cells} >= {"PEFT", "transformers", "vLLM", "SGLang", "axolotl", "llama.cpp"}
    (vllm,) = (found for name, found in cells.items() if name.startswith("vLLM ≥ 0.32"))
    assert vllm["padded"].startswith("pass, ")
    assert vllm["merged"] == "–"
    assert (demo.folder / "reports" / "export" / "demo" / "compact" / "adapter_config.json").is_file()


def test_search_cost(tmp_path) -> None:
    """All of it, with three steps a fine-tune: every contender trains, and the curves are written."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    benchmark("search_cost.py", tmp_path, "--rounds", "1", "--trials", "2", "--steps", "2", "--small")
    out = tmp_path / "reports" / "benchmarks"
    result = json.loads((out / "search_cost.json").read_text())
    assert set(result["throughput"]["training_speed_against_b"]) == {"a", "b", "c", "d"}
    assert len(result["a: Optuna TPE and Trainer"]["curve"]) == 2
    assert len(result["ours"]) >= 1
    assert set(result["time to hypervolume"]) == {"own scores", "trained again"}
    assert (out / "search_cost.png").is_file()


def test_samplers(tmp_path) -> None:
    """Every sampler searches, and what is on record is not searched again."""
    short = ("--evaluations", "8", "--out", ".")
    benchmark("samplers.py", tmp_path, "--seeds", "1", *short)
    again = benchmark("samplers.py", tmp_path, "--seeds", "1", *short)
    result = json.loads((tmp_path / "samplers.json").read_text())
    kinds = {"nehvi", "nehvi, prior", "nehvi, shuffled", "gp", "tpe", "tpe, independent", "nsga2", "random"}
    assert result["summary"].keys() == kinds
    assert {run["sampler"] for run in result["runs"]} == kinds
    for run in result["runs"]:
        assert len(run["shares"]) == 8
        assert run["shares"] == sorted(run["shares"])
    assert json.loads(again) == result["summary"]
    assert (tmp_path / "samplers.png").is_file()


def test_coverage(tmp_path) -> None:
    benchmark("coverage.py", tmp_path, "--runs", "3", "--only", "2,000", "--out", ".")
    result = json.loads((tmp_path / "coverage.json").read_text())
    assert [mix["mix"] for mix in result["mixes"]] == [
        "RankBench, 2,000 examples",
        "RankBench, 2,000 examples, seeds as noisy as the demo's",
    ]
    for mix in result["mixes"]:
        assert mix["coverage"].keys() == {"1", "2", "3", "5", "10"}
        assert mix["choices"].keys() == {"as-good-as-best", "as-good-as-best, halves", "within-one-se"}
        assert all(0 <= share <= 1 for share in mix["coverage"].values())


def test_joint(demo) -> None:
    """Both maps of two small studies, trained at both settings."""
    settings = ("--set", "study=joint", "--set", "space.learning_rate=[1.0e-3, 4.0e-3]", "--set", "space.alpha=[2, 8]")
    result = demo(*small_run(7), *settings)
    assert result.returncode == 0, result.stderr
    benchmark("joint.py", demo.folder, "demo", "joint", "--seeds", "1", "--out", ".")
    result = json.loads((demo.folder / "joint.json").read_text())
    assert result["settings"]["demo"] == {"learning_rate": 2e-3, "alpha": 4}
    assert 1e-3 <= result["settings"]["joint"]["learning_rate"] <= 4e-3
    assert len(result["test"]) == 4
    assert len(result["differences"]) == 5
    for difference in result["differences"].values():
        assert difference["ci_low"] <= difference["mean"] <= difference["ci_high"]


def test_scale(tmp_path) -> None:
    """All parts, each cut short, and the page of them."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "reports").mkdir()
    benchmark("scale.py", tmp_path, "workers", "--packs", "2", "--steps", "2", "--rounds", "1")
    benchmark("scale.py", tmp_path, "overhead", "--trials", "12")
    for part in (["ask"], ["driver", "--trials", "3"], ["study"]):
        benchmark("scale.py", tmp_path, *part, "--longest", "100")
    benchmark("scale.py", tmp_path, "simulate")
    benchmark("scale.py", tmp_path, "report")
    found = json.loads((tmp_path / "reports" / "benchmarks" / "scale.json").read_text())
    written = (tmp_path / "reports" / "scale.md").read_text()
    assert found.keys() == json.loads((ROOT / "reports" / "benchmarks" / "scale.json").read_text()).keys()
    assert f"Two workers are {found['workers']['times_faster']} times as fast" in written
    for kind, seconds in found["ask"]["seconds"].items():
        assert f"| {kind} | {seconds['100']} |" in written


def test_page(tmp_path) -> None:
    if chromium() is None:
        missing("Chromium is not here; apt-get install chromium")
    benchmark("report_page.py", tmp_path, "--trials", "60", "--picks", "2")
    found = json.loads((tmp_path / "reports" / "benchmarks" / "report_page.json").read_text())
    assert found["megabytes"] < 6
    assert found["pick_milliseconds"].keys() == {"pin", "budget", "score"}


def test_time_left(demo) -> None:
    benchmark("time_left.py", demo.folder, "demo")
    found = json.loads((demo.folder / "reports" / "benchmarks" / "time_left.json").read_text())["demo"]
    assert [row["trials"] for row in found["told"]] == sorted({row["trials"] for row in found["told"]})
    assert 0 <= found["within_20_percent"] <= 1
