"""Leases on running trials: who is at work on one, and whether that process still lives.

Optuna's heartbeat is made for ``Study.optimize``; this study asks and tells, so it keeps its own.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from optuna.trial import Trial

LEASE = "lease"
_DURATION = 300.0  # seconds a lease lasts when its process, on another host, says nothing more
_RENEWALS = 5  # a duration


def _new_lease() -> dict[str, Any]:
    process = psutil.Process(os.getpid())
    return {
        "host": socket.gethostname(),
        "pid": process.pid,
        "started": process.create_time(),
        "expires": time.time() + _DURATION,
    }


def is_live(lease: Mapping[str, Any] | None) -> bool:
    """Whether the holder of a lease may still be at work.

    On this host the process itself is looked at (pid and start time, as pids come round again), so a
    killed process's trial is free at once. For another host only the clock can tell.
    """
    if lease is None:
        return False
    if lease["host"] != socket.gethostname():
        return bool(lease["expires"] > time.time())
    try:
        return bool(abs(psutil.Process(lease["pid"]).create_time() - lease["started"]) < 1)
    except psutil.NoSuchProcess:
        return False


@contextmanager
def held(trials: Sequence[Trial]) -> Iterator[None]:
    """Holds leases on running trials, renewed by a thread until the context ends.

    Trials that are taken from the sequence meanwhile are let go.
    """
    for trial in trials:
        trial.set_user_attr(LEASE, _new_lease())
    done = threading.Event()

    def renew() -> None:
        while not done.wait(_DURATION / _RENEWALS):
            for trial in [*trials]:
                # The trial may have been told a moment ago, or the storage be away until the next renewal.
                with suppress(Exception):
                    trial.set_user_attr(LEASE, _new_lease())

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
