"""The main job on the real model and real text, through the command line, as its users run it."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import optuna
import pytest
import torch
from optuna.trial import TrialState
from safetensors.torch import load_file

from rank_search.config import ModelConfig, RetrievalConfig
from rank_search.data.stdlib import load_stdlib_pairs
from rank_search.models.source import locate
from tests.bench import EMBEDDED, REPORT
from tests.conftest import SMALL, Command, made_once, small_run
from tests.processes import Started, start

pytestmark = pytest.mark.training
PLAIN_PEFT = Path(__file__).parent / "plain_peft.py"


def summary(command: Command) -> dict:
    return json.loads((command.folder / "reports" / "demo" / "summary.json").read_text())


def outcome(command: Command) -> list[tuple]:
    """What a study has found, trial by trial."""
    study = optuna.load_study(storage=f"sqlite:///{command.folder}/studies/demo/study.db", study_name="demo")
    return [(trial.number, trial.state, trial.params, trial.values) for trial in study.trials]


def test_run_leaves_a_study_and_a_report(demo) -> None:
    assert {path.name for path in (demo.folder / "reports" / "demo").iterdir()} == REPORT
    assert [state for _, state, _, _ in outcome(demo)] == [TrialState.COMPLETE] * 8
    found = summary(demo)
    assert len(found["trials"]) == 8
    assert set(found["test"]) == {"untrained", "chosen", "uniform", "best uniform"}
    assert "Before and after" in (demo.folder / "reports" / "demo" / "index.html").read_text()
    assert (demo.folder / "studies" / "demo" / "study.yaml").is_file()


def test_fine_tuning_helps(demo) -> None:
    rows = {row["number"]: row for row in summary(demo)["trials"]}
    assert rows[0]["trainable_parameters"] == 0
    assert rows[4]["score"] > rows[0]["score"]


def test_second_run_trains_nothing_and_says_so(demo) -> None:
    before = (demo.folder / "studies" / "demo" / "study.db").read_bytes()
    result = demo(*small_run(8))
    assert result.returncode == 0
    assert "all 8 trials are finished; nothing to train" in result.stderr
    assert (demo.folder / "studies" / "demo" / "study.db").read_bytes() == before


def test_killed_five_times_it_ends_as_if_nothing_had_happened(demo, tmp_path) -> None:
    """8 trials in one sitting, and 8 with a resumed budget of 4 and five kills: the same maps and scores."""
    broken = Command(tmp_path)
    draw = random.Random(0)
    kills = 0
    for trials in (4, 8, 8, 8, 8):
        running = after_its_first_trial(broken, trials)
        time.sleep(draw.uniform(0, 1.5))  # so that each kill comes at another point
        kills += running.kill()
    assert kills == 5
    result = broken(*small_run(8), "--set", "trackers=[tensorboard]")
    assert result.returncode == 0, result.stderr
    assert outcome(broken) == outcome(demo)
    sent = json.loads((broken.folder / "studies" / "demo" / "trackers.json").read_text())
    assert sent == {"tensorboard": [*range(8)]}


def test_trackers_get_what_was_trained_before_they_were_named(demo, tmp_path) -> None:
    shutil.copytree(demo.folder / "studies", tmp_path / "studies")
    result = Command(tmp_path)(*small_run(8), "--set", "trackers=[tensorboard]")
    assert result.returncode == 0, result.stderr
    assert {path.name for path in (tmp_path / "studies" / "demo" / "trackers").iterdir()} == {"tensorboard", "lock"}
    assert {path.name for path in tmp_path.iterdir()} == {"studies", "reports"}


def after_its_first_trial(command: Command, trials: int) -> Started:
    """A run that has reported a trial, or has ended."""
    running = start(command.folder, command.folder / "log.txt", *small_run(trials))
    running.wait_until(lambda: "trial " in running.log.read_text())
    return running


def ran(tmp_path_factory, name: str, arguments: list[str]) -> Command:
    def run(folder: Path) -> None:
        result = Command(folder)(*arguments)
        assert result.returncode == 0, result.stderr

    return Command(made_once(tmp_path_factory, name, run))


def killed(folder: Path, arguments: list[str], *moments: tuple[str, int]) -> Command:
    """A demo that is killed when so many files of its study are there, again and again, and then run to its end."""
    study = folder / "studies" / "demo"
    for glob, count in moments:
        running = start(folder, folder / "log.txt", *arguments)
        running.wait_until(lambda glob=glob, count=count: len([*study.glob(glob)]) >= count)
        assert running.kill()
    command = Command(folder)
    result = command(*arguments)
    assert result.returncode == 0, result.stderr
    return command


HONEST = [
    "run",
    *SMALL,
    *("--set", "space.ladder=[0, 2]"),
    *("--set", "search.baselines=[svd, eva, adalora]"),
    *("--set", "search.trials=8"),
    *("--set", "search.repeats=3"),
    *("--set", "search.verdict_seeds=2"),
]


@pytest.fixture(scope="session")
def honest_demo(tmp_path_factory) -> Command:
    """A demo with every kind of baseline, repeats and a verdict, run in one sitting."""
    return ran(tmp_path_factory, "honest-demo", HONEST)


@pytest.mark.chaos
def test_baselines_repeats_and_verdict_come_out_the_same_whatever_kills_them(honest_demo, tmp_path) -> None:
    """Killed among its baselines, its repeats and its fresh trainings."""
    moments = (("results/*.json", 5), ("results/*.json", 15), ("confirmations/*-0.json", 1))
    broken = killed(tmp_path, HONEST, *moments)
    assert outcome(broken) == outcome(honest_demo)
    assert summary(broken)["verdict"] == summary(honest_demo)["verdict"]


def test_baselines_repeats_and_verdict_through_the_command_line(honest_demo) -> None:
    found = summary(honest_demo)
    kinds = [row["kind"] for row in found["trials"]]
    outside = ["baseline:svd"] * 10 + ["baseline:eva", "baseline:adalora"]
    assert kinds[:14] == ["baseline:uniform"] * 2 + outside
    assert {row["state"] for row in found["trials"]} == {"COMPLETE"}
    assert [row["batch_order"] for row in found["trials"]][:20] == [0] * 17 + [1] * 3
    chosen = found["chosen"]["trainable_parameters"]
    is_cut = found["trials"][found["chosen"]["trial"]]["recipe"] == "truncate"
    known = {row["budget"] for row in found["trials"][:14]}
    is_new = chosen > 0 and not is_cut and chosen not in known  # a size to truncate to
    assert (kinds[20:] == ["baseline:svd"]) == is_new
    assert all(0 <= row["front_probability"] <= 1 for row in found["trials"] if row["in_space"])
    assert [(baseline["kind"], baseline["scored"], baseline["missing"]) for baseline in found["baselines"]] == [
        ("baseline:uniform", 2, ""),
        ("baseline:svd", 10 + is_new, ""),
        ("baseline:eva", 1, ""),
        ("baseline:adalora", 1, ""),
    ]
    assert {compared["role"] for compared in found["compared"]} >= {"chosen", "uniform", "best uniform"}
    assert all(len(compared["tests"]) == 2 and not compared["failures"] for compared in found["compared"])
    assert honest_demo("choose", "demo", "--explain").stdout.count("stands") == 1
    judged = honest_demo("choose", "demo", "--rule", "best", "--verdict", "--seeds", "1", "--json")
    assert judged.returncode == 0, judged.stderr
    verdict = json.loads(judged.stdout)["verdict"]
    assert (verdict["split"], verdict["seeds"] >= 1) == ("test", True)
    assert verdict["headline"].endswith(".")
    adapter = honest_demo.folder / "adamap"
    exported = honest_demo("export", "demo", "--trial", "13", "--to", "peft", "--out", str(adapter))
    assert exported.returncode == 0, exported.stderr
    (row,) = (row for row in found["trials"] if row["kind"] == "baseline:adalora")
    ranks = json.loads((adapter / "adapter_config.json").read_text())["rank_pattern"]
    assert sum(ranks.values()) == sum(row["ranks"].values())


def test_interrupt_keeps_everything_and_exits_130(tmp_path) -> None:
    command = Command(tmp_path)
    running = after_its_first_trial(command, 8)
    os.kill(running.process.pid, signal.SIGINT)
    assert running.exit_status() == 130
    assert any(state == TrialState.COMPLETE for _, state, _, _ in outcome(command))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "training.learning_rate=0.5",
            "--set: training.learning_rate: is 0.5, but the study was started with",
        ),
        ("search.sampler=gp", "--set: search.sampler: is 'gp', but the study was started with 'nehvi'"),
        ("space.ladder=[0, 1, 2]", "--set: space.ladder: is [0, 1, 2], but"),
    ],
)
def test_study_is_not_resumed_with_changed_settings(demo, override, expected) -> None:
    before = outcome(demo)
    result = demo(*small_run(9), "--set", override)
    assert result.returncode == 2
    assert result.stderr.startswith(f"rank_search: {expected}")
    assert len(result.stderr.splitlines()) == 1
    assert outcome(demo) == before


def test_study_is_not_resumed_on_other_data(demo) -> None:
    """The record is made to hold another fingerprint, as if the interpreter's library had changed."""
    study = optuna.load_study(storage=f"sqlite:///{demo.folder}/studies/demo/study.db", study_name="demo")
    record = study.user_attrs["rank_search"]
    study.set_user_attr("rank_search", {**record, "data_fingerprint": "sha256:other"})
    try:
        result = demo(*small_run(9))
    finally:
        study.set_user_attr("rank_search", record)
    assert result.returncode == 2
    assert result.stderr.startswith("rank_search: configs/demo.yaml: task.data: is 'sha256:")
    assert len(result.stderr.splitlines()) == 1


def test_exported_adapter_scores_the_same_under_plain_peft(demo, tmp_path) -> None:
    chosen = json.loads(demo("choose", "demo", "--rule", "best", "--json").stdout)
    assert chosen["trainable_parameters"] > 0
    result = demo("export", "demo", "--rule", "best", "--to", "peft", "--out", str(tmp_path / "adapter"))
    assert result.returncode == 0, result.stderr
    pairs = tmp_path / "pairs.json"
    data = {"source": "builtin:python-stdlib", "held_out": 0.25}
    sizes = RetrievalConfig(kind="retrieval", data=data, validation_size=40, selection_size=0, test_size=20)
    validation = load_stdlib_pairs(sizes).validation
    pairs.write_text(json.dumps([[pair.query, pair.document] for pair in validation]))
    base = locate(ModelConfig(source=EMBEDDED)).path_or_id
    script = [sys.executable, str(PLAIN_PEFT), base, str(tmp_path / "adapter"), str(pairs), "16", "32"]
    printed = json.loads(subprocess.run(script, capture_output=True, text=True, check=True, cwd=tmp_path).stdout)
    assert printed["score"] == pytest.approx(chosen["score"], abs=1e-3)
    assert printed["trainable_parameters"] == chosen["trainable_parameters"]


def test_verify_proves_what_was_exported_and_fails_when_its_scale_is_wrong(demo, tmp_path) -> None:
    bundle = tmp_path / "bundle"
    # The largest uniform map: at rank 1 both rules of the scale agree.
    result = demo("export", "demo", "--trial", "4", "--to", "compact", "--out", str(bundle))
    assert result.returncode == 0, result.stderr
    verified = demo("verify", str(bundle), "--json")
    assert verified.returncode == 0, verified.stderr
    (findings,) = json.loads(verified.stdout)["bundles"].values()
    # axolotl trains no embedders, and vLLM before 0.32 serves no adapters for BERT.
    assert [finding["passed"] for finding in findings] == [True, True, None, None, True]
    config = bundle / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "use_rslora": True}))
    wrong = demo("verify", str(bundle))
    assert wrong.returncode == 1
    assert "FAIL" in wrong.stdout
    unserved = demo("verify", str(bundle), "--consumer", "axolotl", "--json")
    assert unserved.returncode == 1  # it was asked for, and can't be judged
    assert json.loads(unserved.stdout)["passed"] is False
    empty = tmp_path / "empty"
    empty.mkdir()
    missing = demo("verify", str(empty))
    assert missing.returncode == 2
    assert missing.stderr.startswith(f"rank_search: DIR: '{empty}' holds no rank_search.json")


def test_weights_that_were_not_kept_are_trained_again_as_they_were(demo, tmp_path) -> None:
    trial = json.loads(demo("choose", "demo", "--rule", "best", "--json").stdout)["trial"]
    adapter = demo.folder / "studies" / "demo" / "adapters" / f"{trial:04d}"
    before = load_file(adapter / "adapter_model.safetensors")
    shutil.rmtree(adapter)
    export = ("export", "demo", "--trial", str(trial), "--to", "peft", "--out", str(tmp_path / "adapter"))
    refused = demo(*export)
    assert refused.returncode == 1
    assert f"trial {trial} has no saved adapter" in refused.stderr
    assert "--retrain" in refused.stderr
    result = demo(*export, "--retrain")
    assert result.returncode == 0, result.stderr
    assert f"trial {trial} was trained again: 0." in result.stderr
    after = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)
    assert "These weights were trained again after the search" in (tmp_path / "adapter" / "README.md").read_text()


def test_plan_trains_nothing_and_writes_nothing(command) -> None:
    result = command("plan", "--json")
    assert result.returncode == 0, result.stderr
    content = json.loads(result.stdout)
    assert content["space_size"] == 5**36
    assert (content["least_parameters"], content["most_parameters"]) == (0, 331_776)
    assert content["modules"]["encoder.layer.0.intermediate.dense"] == [384, 1536]
    assert content["estimated_seconds"] > 24 * 40 * content["step_seconds"]
    assert command.files() == set()


def test_optuna_dashboard_opens_the_study(demo) -> None:
    port = "18099"
    url = f"sqlite:///{demo.folder}/studies/demo/study.db"
    server = subprocess.Popen(
        [str(Path(sys.executable).parent / "optuna-dashboard"), url, "--port", port, "--host", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        studies = _get_json(f"http://127.0.0.1:{port}/api/studies")
        assert [study["study_name"] for study in studies["study_summaries"]] == ["demo"]
        detail = _get_json(f"http://127.0.0.1:{port}/api/studies/{studies['study_summaries'][0]['study_id']}")
        assert len(detail["trials"]) == 8
    finally:
        server.kill()
        server.wait()


def _get_json(url: str) -> dict:
    for _ in range(60):
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return json.load(response)
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(url)
