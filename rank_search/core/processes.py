"""This process among others: a name that no other process has, and whether the process of such a name still lives."""

from __future__ import annotations

import hashlib
import itertools
import os
import socket
from functools import cache
from pathlib import Path

import psutil

_COUNTER = itertools.count()


@cache
def host() -> str:
    """Where a pid means the same process: this machine, since it started, and this container."""
    boot, pids = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    since = boot.read_text(encoding="ascii").strip() if boot.is_file() else ""
    return f"{socket.gethostname()} {since} {pids.stat().st_ino if pids.exists() else ''}"


def unique_name() -> str:
    """A part of a file's name that nobody else uses: host, pid and a count, such as ``3f2a9c1e-4711-0``."""
    return f"{_host_digest()}-{os.getpid()}-{next(_COUNTER)}"


def is_left_over(name: str) -> bool:
    """Whether a name that `unique_name` made is one of a process of this host that lives no more."""
    return (pid := _pid_here(name)) is not None and not psutil.pid_exists(pid)


def is_in_use(name: str) -> bool:
    """Whether a name that `unique_name` made is one of a process of this host that lives."""
    return (pid := _pid_here(name)) is not None and psutil.pid_exists(pid)


def _pid_here(name: str) -> int | None:
    """The pid in a name that a process of this host made; None in other names."""
    digest, _, rest = name.partition("-")
    pid = rest.partition("-")[0]
    return int(pid) if digest == _host_digest() and pid.isdecimal() else None


@cache
def _host_digest() -> str:
    return hashlib.sha256(host().encode()).hexdigest()[:8]
