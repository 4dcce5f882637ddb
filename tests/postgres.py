"""A PostgreSQL server of one's own, on loopback, that can be stopped and killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

PASSWORD = "s3cret-of-the-storage"  # which no output may show
_WAIT = 60


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class Postgres:
    """A server, whose databases are gone when it is removed."""

    home: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="rank_search-postgres-")))
    port: int = field(default_factory=_free_port)
    process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def is_here() -> bool:
        return _program("postgres") is not None

    def make(self) -> None:
        """Makes the files of the server."""
        secret = self.home / "password"
        secret.write_text(PASSWORD)
        for path in (self.home, secret):
            shutil.chown(path, **_owner())
        command = ["initdb", "-D", self._data, "-U", "tester", "-A", "scram-sha-256", "--pwfile", secret, "-N"]
        self._run(*command, check=True)

    def start(self) -> None:
        """Starts the server, and waits until it answers."""
        command = [_program("postgres"), "-D", self._data, "-p", str(self.port), "-h", "127.0.0.1", "-k", self.home]
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.home, stdout=log, stderr=log, **_as_user())
        deadline = time.monotonic() + _WAIT
        while self._run("pg_isready", "-h", "127.0.0.1", "-p", str(self.port)).returncode:
            if time.monotonic() > deadline:
                raise TimeoutError((self.home / "log").read_text())
            time.sleep(0.1)

    def stop(self) -> None:
        """Shuts the server down, cutting off whoever is connected."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """As a power cut would."""
        self._end(signal.SIGKILL)
        # Its children end by themselves when they miss it, and hold its memory until then.
        deadline = time.monotonic() + _WAIT
        while _is_used(self._data) and time.monotonic() < deadline:
            time.sleep(0.1)

    def remove(self) -> None:
        if self.process is not None:
            self.stop()
        shutil.rmtree(self.home)

    def database(self, name: str) -> str:
        """URL of a new, empty database."""
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "tester"]
        subprocess.run([_program("createdb"), *address, name], env=environment, check=True)
        return f"postgresql+psycopg://tester:{PASSWORD}@127.0.0.1:{self.port}/{name}"

    @property
    def _data(self) -> str:
        return str(self.home / "data")

    def _end(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(_WAIT)
        self.process = None

    def _run(self, program: str, *arguments: str | Path, check: bool = False) -> subprocess.CompletedProcess[bytes]:
        command = [_program(program), *arguments]
        return subprocess.run(command, cwd=self.home, capture_output=True, check=check, **_as_user())


def _program(name: str) -> str | None:
    """Debian keeps the server's programs out of the path."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


def _owner() -> dict[str, object]:
    """The server refuses to run as root; Debian's package brings a user for it."""
    return {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {"user": os.geteuid()}


def _as_user() -> dict[str, object]:
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


def _is_used(folder: str) -> bool:
    """Whether a process still works in a folder."""
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if str(path.readlink()) == folder:
                return True
        except OSError:  # it has just ended
            continue
    return False
