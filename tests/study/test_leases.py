import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import optuna
import psutil
import pytest

from rank_search.study import leases
from rank_search.study.leases import Leases
from tests.waiting import wait_until

NO_LOCK = SimpleNamespace(acquired=nullcontext)  # for one driver


class CountedLock:
    """Excludes nobody, and counts how often the renewing thread has acquired it."""

    def __init__(self) -> None:
        self.renewals = 0

    @contextmanager
    def acquired(self):
        yield
        if threading.current_thread().name == "leases":
            self.renewals += 1

    def wait_for_renewals(self) -> None:
        """Waits for one that began after this call, and so for two."""
        seen = self.renewals
        wait_until(lambda: self.renewals >= seen + 2)


@pytest.fixture
def trial():
    return optuna.create_study().ask()


@pytest.fixture
def lock():
    return CountedLock()


@pytest.fixture
def held(lock):
    return Leases(lock)


def lease_of(trial):
    return trial.storage.get_trial(trial._trial_id).user_attrs["lease"]


def test_lease_of_a_living_process_is_live(trial, held) -> None:
    held.acquire(trial)
    assert leases.is_live(lease_of(trial))
    assert lease_of(trial)["pid"] == os.getpid()
    assert held.holds(trial)


def test_lease_of_a_killed_process_is_free_at_once(held) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    lease = {**held._new(), "pid": process.pid, "started": leases._started(psutil.Process(process.pid))}
    assert leases.is_live(lease)
    process.kill()
    process.wait()
    assert not leases.is_live(lease)


def test_pid_that_came_round_again_is_not_the_holder(held) -> None:
    assert not leases.is_live({**held._new(), "started": time.time() - 1e6})


@pytest.mark.skipif(sys.platform != "linux", reason="patches psutil's Linux part")
@pytest.mark.parametrize("seconds", [-7200, 7200])
def test_living_driver_is_known_when_the_clock_is_set(monkeypatch, seconds) -> None:
    """Linux works out from its clock when it was started, and so when each process was."""
    lease, booted = Leases(NO_LOCK)._new(), psutil.boot_time()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: booted + seconds)
    assert leases.is_live(lease)


def test_lease_of_another_host_is_live_until_it_expires(held) -> None:
    elsewhere = {**held._new(), "host": "elsewhere", "pid": 1}
    assert leases.is_live(elsewhere)
    assert not leases.is_live({**elsewhere, "expires": time.time() - 1})


def test_no_lease_is_not_live() -> None:
    assert not leases.is_live(None)


def test_lease_is_renewed_while_held(trial, held, monkeypatch) -> None:
    monkeypatch.setattr(leases, "_DURATION", 0.1)
    held.acquire(trial)
    first = lease_of(trial)["expires"]
    with held:
        wait_until(lambda: lease_of(trial)["expires"] > first)
    assert lease_of(trial)["expires"] > first


def test_lease_of_a_trial_that_is_recorded_ends_quietly(trial, held, lock, monkeypatch) -> None:
    monkeypatch.setattr(leases, "_DURATION", 0.05)
    held.acquire(trial)
    with held:
        trial.study.tell(trial, 1.0)
        lock.wait_for_renewals()
    assert trial.study.trials[0].value == 1.0


def test_lease_that_is_released_is_free_for_everybody(trial, held) -> None:
    held.acquire(trial)
    held.release(trial)
    assert not held.holds(trial)
    assert not leases.is_live(lease_of(trial))


def test_lease_that_another_driver_took_is_neither_renewed_nor_released(trial, held, lock, monkeypatch) -> None:
    """As after a long silence: whoever took it must keep it."""
    monkeypatch.setattr(leases, "_DURATION", 0.1)
    other = Leases(NO_LOCK)
    held.acquire(trial)
    other.acquire(trial)
    taken = lease_of(trial)
    with held:
        lock.wait_for_renewals()
    held.release(trial)
    assert lease_of(trial) == taken
    assert not held.holds(trial)
    assert other.holds(trial)


def test_part_that_another_driver_took_meanwhile_stays_its() -> None:
    study = optuna.create_study()
    away, other = Leases(NO_LOCK), Leases(NO_LOCK)
    with away:
        assert away.acquire_part(study, "verdict")
        assert not other.acquire_part(study, "verdict")
        study.set_user_attr("lease:verdict", None)  # as if it had expired
        assert other.acquire_part(study, "verdict")
    assert other.is_ours(study.user_attrs["lease:verdict"])
    with other:
        pass
    assert study.user_attrs["lease:verdict"] is None
