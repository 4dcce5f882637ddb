"""Leases on running trials: who is at work on one, and whether that process still lives.

Optuna's heartbeat is made for ``Study.optimize``; this study asks and tells, so it keeps its own.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from types import TracebackType

    from optuna import Study
    from optuna.trial import Trial

LEASE = "lease"
_DURATION = 600.0  # seconds a lease lasts when its process, on another host, says nothing; longer than its patience
_RENEWALS = 5  # a duration


def is_live(lease: Mapping[str, Any] | None) -> bool:
    """Whether the holder of a lease may still be at work.

    On this host the process itself is looked at (pid and start time, as pids come round again), so a
    killed process's trial is free at once. For another host only the clock can tell.
    """
    if lease is None:
        return False
    if lease["host"] != _host():
        return bool(lease["expires"] > time.time())
    try:
        process = psutil.Process(lease["pid"])
        is_it = abs(process.create_time() - lease["started"]) < 1
        return bool(is_it and process.status() != psutil.STATUS_ZOMBIE)  # whose parent has not looked at its end
    except psutil.NoSuchProcess:
        return False


@cache
def _host() -> str:
    """Where a pid means the same process: this machine, since it started, and this container."""
    boot, pids = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    since = boot.read_text(encoding="ascii").strip() if boot.is_file() else ""
    return f"{socket.gethostname()} {since} {pids.stat().st_ino if pids.exists() else ''}"


class Leases:
    """Those that one driver holds, renewed by a thread as long as it is used as a context.

    Thread safety: all methods are for the driver's thread, which calls them where it has the study to itself; the
    thread that renews sees to that by itself.

    Args:
        alone: a context in which no other driver takes or tells trials of this study.
    """

    def __init__(self, alone: Callable[[], AbstractContextManager[Any]]) -> None:
        self._alone = alone
        self._driver = uuid.uuid4().hex
        self._held: dict[int | str, Trial | _Part] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="leases", daemon=True)

    def __enter__(self) -> Leases:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        for name in [name for name in self._held if isinstance(name, str)]:
            with suppress(Exception):  # a storage that is away: then it ends with this process
                self.let_go_part(name)

    def take(self, trial: Trial) -> None:
        """Takes the lease of a running trial that nobody else is at work on."""
        trial.set_user_attr(LEASE, self._new())
        self._held[trial.number] = trial

    def take_part(self, study: Study, name: str) -> bool:
        """Takes a part of a study that one driver does for all; returns False where another is at it."""
        part = _Part(study, name)
        if is_live(part.lease) and not self.is_ours(part.lease):
            return False
        part.set_user_attr(LEASE, self._new())
        self._held[name] = part
        return True

    def let_go(self, trial: Trial) -> None:
        """Gives up a trial that goes on running, so that any driver can take it."""
        self.forget(trial.number)
        if self.is_ours(_lease_of(trial)):
            trial.set_user_attr(LEASE, None)

    def let_go_part(self, name: str) -> None:
        """Gives up a part that is done."""
        if isinstance(part := self._held.pop(name, None), _Part):
            with self._alone():
                if self.is_ours(part.lease):  # not where this driver was away for too long
                    part.set_user_attr(LEASE, None)

    def forget(self, number: int) -> None:
        """Renews a trial's lease no more."""
        self._held.pop(number, None)

    def holds(self, trial: Trial) -> bool:
        """Whether the trial is still this driver's: it may have been silent for too long."""
        return trial.number in self._held and self.is_ours(_lease_of(trial))

    def is_ours(self, lease: Mapping[str, Any] | None) -> bool:
        """Whether this driver has taken it."""
        return lease is not None and lease["driver"] == self._driver

    def _new(self) -> dict[str, Any]:
        process = psutil.Process(os.getpid())
        return {
            "driver": self._driver,
            "host": _host(),
            "pid": process.pid,
            "started": process.create_time(),
            "expires": time.time() + _DURATION,
        }

    def _renew(self) -> None:
        while not self._done.wait(_DURATION / _RENEWALS):
            # A trial may have been told a moment ago, or the storage be away until the next renewal.
            with suppress(Exception), self._alone():
                for held in [*self._held.values()]:
                    with suppress(Exception):
                        if self.is_ours(_lease_of(held)):
                            held.set_user_attr(LEASE, self._new())


@dataclass(frozen=True)
class _Part:
    """A part of a study that one driver does for all."""

    study: Study
    name: str

    @property
    def lease(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.study.user_attrs.get(f"{LEASE}:{self.name}")
        return found

    def set_user_attr(self, key: str, value: Any) -> None:
        self.study.set_user_attr(f"{key}:{self.name}", value)


def _lease_of(held: Trial | _Part) -> dict[str, Any] | None:
    """As it is in the storage now; another driver may have taken it."""
    if isinstance(held, _Part):
        return held.lease
    found: dict[str, Any] | None = held.storage.get_trial(held._trial_id).user_attrs.get(LEASE)
    return found
