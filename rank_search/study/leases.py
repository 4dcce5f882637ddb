"""Leases on running trials: who is at work on one, and whether that process still lives.

Optuna's heartbeat is made for ``Study.optimize``; this study asks and tells, so it keeps leases of its own.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
from pydantic import TypeAdapter

from rank_search.core.processes import host
from rank_search.study.metadata import study_attribute
from rank_search.study.optuna_compat import stored
from rank_search.study.record import Lease, TrialAttributes, keep

if TYPE_CHECKING:
    from types import TracebackType

    import optuna
    from optuna.trial import Trial

    from rank_search.study.lock import ExclusiveLock

_PREFIX = "lease:"  # of the study's attributes that hold leases of its parts
_DURATION = 600.0  # seconds a lease lasts when its process, on another host, says nothing; longer than its patience
_LEASE: TypeAdapter[Lease] = TypeAdapter(Lease)
_RENEWALS = 5  # a duration


def is_live(lease: Lease | None) -> bool:
    """Whether the holder of a lease may still be at work.

    On this host the process itself is looked at (pid and start time, as pids come round again), so a
    killed process's trial is free at once. For another host only the clock can show it.
    """
    if lease is None:
        return False
    if lease["host"] != host():
        return bool(lease["expires"] > time.time())
    try:
        process = psutil.Process(lease["pid"])
        is_it = abs(_started(process) - lease["started"]) < 1
        return bool(is_it and process.status() != psutil.STATUS_ZOMBIE)  # whose parent has not looked at its end
    except psutil.NoSuchProcess:
        return False


def _started(process: psutil.Process) -> float:
    """When a process was started, in seconds since the machine was: that changes with no clock."""
    return process.create_time() - psutil.boot_time()


class Leases:
    """The leases that one driver holds, renewed by a thread as long as this is used as a context.

    Thread safety: all methods are for the driver's thread, which calls them while it holds the study's exclusive lock;
    the renewing thread acquires that lock by itself.

    Args:
        lock: the study's exclusive lock.
    """

    def __init__(self, lock: ExclusiveLock) -> None:
        self._lock = lock
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
            with suppress(Exception):  # a storage that is away: then the lease ends with this process
                self.release_part(name)

    def acquire(self, trial: Trial) -> None:
        """Takes the lease of a running trial that no other process works on."""
        keep(trial, lease=self._new())
        self._held[trial.number] = trial

    def acquire_part(self, study: optuna.Study, name: str) -> bool:
        """Takes the lease of a part of a study that one driver does for all; False where another driver holds it."""
        part = _Part(study, name)
        if is_live(part.lease) and not self.is_ours(part.lease):
            return False
        part.write(self._new())
        self._held[name] = part
        return True

    def release(self, trial: Trial) -> None:
        """Gives up a trial that goes on running, so that any driver can take it."""
        self.forget(trial.number)
        if self.is_ours(_lease_of(trial)):
            keep(trial, lease=None)

    def release_part(self, name: str) -> None:
        """Gives up a part that is done."""
        if isinstance(part := self._held.pop(name, None), _Part):
            with self._lock.acquired():
                if self.is_ours(part.lease):  # not where this driver was away for too long
                    part.write(None)

    def forget(self, number: int) -> None:
        """Stops renewing a trial's lease."""
        self._held.pop(number, None)

    def holds(self, trial: Trial) -> bool:
        """Whether the trial is still this driver's, who may have been silent for too long."""
        return trial.number in self._held and self.is_ours(_lease_of(trial))

    def is_ours(self, lease: Lease | None) -> bool:
        """Whether a lease is this driver's."""
        return lease is not None and lease["driver"] == self._driver

    def _new(self) -> Lease:
        process = psutil.Process(os.getpid())
        return {
            "driver": self._driver,
            "host": host(),
            "pid": process.pid,
            "started": _started(process),
            "expires": time.time() + _DURATION,
        }

    def _renew(self) -> None:
        while not self._done.wait(_DURATION / _RENEWALS):
            # A trial may have ended a moment ago, or the storage be away until the next renewal.
            with suppress(Exception), self._lock.acquired():
                for held in [*self._held.values()]:
                    with suppress(Exception):
                        if self.is_ours(_lease_of(held)):
                            held.write(self._new()) if isinstance(held, _Part) else keep(held, lease=self._new())


@dataclass(frozen=True)
class _Part:
    """A part of a study that one driver does for all."""

    study: optuna.Study
    name: str

    @property
    def lease(self) -> Lease | None:
        return part_leases(self.study).get(self.name)

    def write(self, lease: Lease | None) -> None:
        self.study.set_user_attr(f"{_PREFIX}{self.name}", lease)


def part_leases(study: optuna.Study) -> dict[str, Lease | None]:
    """Part of a study that one driver does for all → its lease.

    Raises:
        InputError: a lease is damaged.
    """
    names = [name for name in study.user_attrs if name.startswith(_PREFIX)]
    return {name.removeprefix(_PREFIX): study_attribute(study, name, _LEASE) for name in names}


def _lease_of(held: Trial | _Part) -> Lease | None:
    """A lease as it is in the storage now; another driver may have taken it."""
    return held.lease if isinstance(held, _Part) else TrialAttributes.read(stored(held)).lease
