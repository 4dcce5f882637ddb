import os
import subprocess
import sys
import time

import optuna
import psutil
import pytest

from rank_search.search import leases


@pytest.fixture
def trial():
    return optuna.create_study().ask()


def test_lease_of_a_living_process_is_live(trial) -> None:
    with leases.held([trial]):
        assert leases.is_live(trial.user_attrs["lease"])
    assert trial.user_attrs["lease"]["pid"] == os.getpid()


def test_lease_of_a_killed_process_is_free_at_once(trial) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    lease = {**leases._new_lease(), "pid": process.pid, "started": psutil.Process(process.pid).create_time()}
    assert leases.is_live(lease)
    process.kill()
    process.wait()
    assert not leases.is_live(lease)


def test_pid_that_came_round_again_is_not_the_holder() -> None:
    assert not leases.is_live({**leases._new_lease(), "started": time.time() - 1e6})


def test_lease_of_another_host_is_live_until_it_expires() -> None:
    elsewhere = {**leases._new_lease(), "host": "elsewhere", "pid": 1}
    assert leases.is_live(elsewhere)
    assert not leases.is_live({**elsewhere, "expires": time.time() - 1})


def test_no_lease_is_not_live() -> None:
    assert not leases.is_live(None)


def test_lease_of_a_trial_that_is_told_ends_quietly(monkeypatch) -> None:
    monkeypatch.setattr(leases, "_DURATION", 0.05)
    study = optuna.create_study()
    trial = study.ask()
    with leases.held([trial]):
        study.tell(trial, 1.0)
        time.sleep(0.2)
    assert study.trials[0].value == 1.0


def test_lease_is_renewed_while_held(trial, monkeypatch) -> None:
    monkeypatch.setattr(leases, "_DURATION", 0.1)
    with leases.held([trial]):
        first = trial.user_attrs["lease"]["expires"]
        time.sleep(0.5)
        assert trial.user_attrs["lease"]["expires"] > first
