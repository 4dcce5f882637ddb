"""The command line on a Ray cluster and on PostgreSQL, with real models and data."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import psutil
import yaml

from rank_search.study.storage import StudyFolder, load_study
from tests.classifier import config
from tests.conftest import Command
from tests.postgres import PASSWORD


def study_file(command: Command, place, **sections) -> str:
    settings = config(place, search={"trials": 12, "repeats": 4, "verdict_seeds": 1, "pack": 2}, **sections)
    (command.folder / "study.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude_none=True)))
    return "study.yaml"


def started(command: Command, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command.line(*arguments),
        cwd=command.folder,
        env=command.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_drivers_share_a_study_and_nothing_shows_the_password(command, place, database) -> None:
    file = study_file(command, place, executor={"kind": "local"})
    drivers = [started(command, "run", file, "--storage", database) for _ in range(2)]
    said = [driver.communicate(timeout=500) for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], said
    study, record = load_study(StudyFolder(command.folder / "studies" / "small"), database)
    assert {trial.state.name for trial in study.trials} == {"COMPLETE"}
    in_space = [trial for trial in study.trials if trial.params]
    assert len(in_space) == 12
    again = command("run", file, "--storage", database)
    assert "nothing to train" in again.stderr
    shown = command("status", "small", "--storage", database, "--json")
    assert json.loads(shown.stdout)["trials"] == {"COMPLETE": len(study.trials)}
    assert command("doctor", "small", "--storage", database).stdout == "small: nothing is wrong\n"
    texts = [text for pair in said for text in pair] + [again.stderr, shown.stdout]
    texts += [str(record)] + [path.read_text(errors="replace") for path in command.folder.rglob("*") if path.is_file()]
    assert not any(PASSWORD in text for text in texts)


def test_ray_through_the_command_line_interrupted_and_gone_on_with(command, place) -> None:
    """Nested scores and early stopping too; no process is left over."""
    file = study_file(command, place, executor={"workers": 2})
    settings = yaml.safe_load((command.folder / file).read_text())
    settings["search"] |= {
        "strategy": "nested",
        "nested": {"evaluations": 16, "confirm": "warm"},
        "early_stopping": True,
    }
    settings["search"] |= {"baselines": []}
    (command.folder / file).write_text(yaml.safe_dump(settings))
    log = command.folder / "log"
    with log.open("w") as out:
        line = command.line("run", file, "--executor", "ray")
        driver = subprocess.Popen(line, cwd=command.folder, env=command.environment(), stdout=out, stderr=out)
    results = command.folder / "studies" / "small" / "results"
    deadline = time.monotonic() + 300
    while len(list(results.glob("*.json"))) < 3:
        assert driver.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    children = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(120) == 130, log.read_text()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
    finished = command("run", file, "--executor", "ray")
    assert finished.returncode == 0, finished.stderr
    summary = json.loads((command.folder / "reports" / "small" / "summary.json").read_text())
    states = {trial["state"] for trial in summary["trials"]}
    assert states <= {"COMPLETE", "PRUNED"}
    assert len(summary["trials"]) == 12
    assert summary["verdict"]["text"]
