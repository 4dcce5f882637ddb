"""Command lines and scripts in processes of their own, as users start them, that need not import their libraries again.

A server, started once, imports what a run imports; each process is a fork of it, which can be killed like any other.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.warm"])


@dataclass(frozen=True)
class Started:
    """A command line that runs.

    Attributes:
        process: its process; ``exitcode`` is its exit status, or minus the signal that ended it.
        log: the file of what it prints on stdout and stderr.
    """

    process: BaseProcess
    log: Path

    def wait_until(self, condition: Callable[[], bool], limit: float = 300.0) -> None:
        """Waits until something is so, or the command has ended; fails after ``limit`` seconds."""
        deadline = time.monotonic() + limit
        while not condition() and self.process.is_alive():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def kill(self) -> bool:
        """Kills it with SIGKILL; whether it was still running."""
        alive = self.process.is_alive()
        self.process.kill()
        self.process.join()
        return alive

    def exit_status(self, limit: float = 300.0) -> int | None:
        """Waits for its end."""
        self.process.join(limit)
        return self.process.exitcode


def start(folder: Path, log: Path, *arguments: str) -> Started:
    """Starts ``python -W error -m rank_search`` with these arguments in a folder.

    Args:
        folder: its working directory.
        log: a file for what it prints, which is emptied.
        arguments: of the command line.
    """
    log.write_text("")
    process = CONTEXT.Process(target=_run, args=(str(folder), str(log), arguments))
    process.start()
    return Started(process, log)


def script(path: Path, folder: Path, *arguments: str) -> str:
    """Runs a Python script in a folder; returns what it prints. It must end with exit status 0."""
    printed, said = (folder / f"{path.stem}.{stream}" for stream in ("stdout", "stderr"))
    process = CONTEXT.Process(target=_run_script, args=(str(path), str(folder), str(printed), str(said), arguments))
    process.start()
    process.join()
    assert process.exitcode == 0, said.read_text()
    return printed.read_text()


def _run(folder: str, log: str, arguments: tuple[str, ...]) -> None:
    from rank_search.cli.main import main

    _print_to(log, log)
    os.chdir(folder)
    sys.argv = ["rank_search", *arguments]
    warnings.simplefilter("error")
    main()


def _run_script(path: str, folder: str, printed: str, said: str, arguments: tuple[str, ...]) -> None:
    _print_to(printed, said)
    os.chdir(folder)
    sys.argv = [path, *arguments]
    sys.path.insert(0, str(Path(path).parent))
    runpy.run_path(path, run_name="__main__")


def _print_to(stdout: str, stderr: str) -> None:
    for name, stream in ((stdout, sys.stdout), (stderr, sys.stderr)):
        with Path(name).open("ab") as file:
            os.dup2(file.fileno(), stream.fileno())
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
