"""The command line on a Ray cluster and on PostgreSQL, with real models and data."""

from __future__ import annotations

import json
import os
import signal

import psutil
import pytest
import yaml

from rank_search.study.folder import StudyFolder
from rank_search.study.handle import Study
from tests.classifier import config
from tests.conftest import Command
from tests.postgres import PASSWORD
from tests.processes import start

pytestmark = pytest.mark.training


def study_file(command: Command, place, **sections) -> str:
    search = {"trials": 12, "repeats": 4, "verdict_seeds": 1, "pack": 2, "tune_uniform": []}
    settings = config(place, search=search, **sections)
    (command.folder / "study.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude_none=True)))
    return "study.yaml"


def test_two_drivers_share_a_study_and_nothing_shows_the_password(command, place, database) -> None:
    file = study_file(command, place, executor={"kind": "local"})
    logs = [command.folder / f"log-{driver}" for driver in range(2)]
    drivers = [start(command.folder, log, "run", file, "--storage", database) for log in logs]
    assert [driver.exit_status(500) for driver in drivers] == [0, 0], [log.read_text() for log in logs]
    handle = Study.find(StudyFolder(command.folder / "studies" / "small"), database)
    study = handle.optuna_study
    assert {trial.state.name for trial in study.trials} == {"COMPLETE"}
    repeated = [trial for trial in study.trials if trial.user_attrs.get("batch_order")]
    first = [trial for trial in study.trials if trial.params and trial not in repeated]
    assert (len(first), len(repeated)) == (8, 4)
    again = command("run", file, "--storage", database)
    assert "nothing to train" in again.stderr
    shown = command("status", "small", "--storage", database, "--json")
    assert json.loads(shown.stdout)["trials"] == {"COMPLETE": len(study.trials)}
    assert command("doctor", "small", "--storage", database).stdout == "small: nothing is wrong\n"
    texts = [again.stderr, shown.stdout, str(handle.metadata)] + [
        path.read_text(errors="replace") for path in command.folder.rglob("*") if path.is_file()
    ]
    assert not any(PASSWORD in text for text in texts)


@pytest.mark.long
def test_ray_through_the_command_line_interrupted_and_gone_on_with(command, place) -> None:
    """No process is left over."""
    file = study_file(command, place, executor={"workers": 2})
    settings = yaml.safe_load((command.folder / file).read_text())
    settings["search"] |= {"baselines": []}
    (command.folder / file).write_text(yaml.safe_dump(settings))
    log = command.folder / "log"
    driver = start(command.folder, log, "run", file, "--executor", "ray")
    results = command.folder / "studies" / "small" / "results"
    driver.wait_until(lambda: len([*results.glob("*.json")]) >= 3)
    assert driver.process.is_alive(), log.read_text()
    children = psutil.Process(driver.process.pid).children(recursive=True)
    os.kill(driver.process.pid, signal.SIGINT)
    assert driver.exit_status() == 130, log.read_text()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
    finished = command.apart("run", file, "--executor", "ray")
    assert finished.returncode == 0, finished.stderr
    summary = json.loads((command.folder / "reports" / "small" / "summary.json").read_text())
    states = {trial["state"] for trial in summary["trials"]}
    assert states == {"COMPLETE"}
    orders = [trial["batch_order"] for trial in summary["trials"]]
    assert orders.count(0) == 8
    assert 0 < orders.count(1) <= 4  # as many as maps were trained to their end
    assert summary["verdict"]["text"]
