"""A whole small study, broken off at every point at which it writes: before and after each commit, rename and fsync.

It runs in a process of its own, as each attempt is a fork of it; all points (killed: 786, 20 minutes) by

    python -m tests.chaos.write_points FOLDER killed
    python -m tests.chaos.write_points FOLDER full
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy.engine.default import DefaultDialect

from rank_search.core.candidate import Candidate
from rank_search.core.space import Space
from rank_search.executors.protocol import Serial
from rank_search.search.fresh_trainings import FreshTrainings
from rank_search.study.faults import out_of_service
from rank_search.study.folder import StudyFolder
from tests.bench import SPACE, Bench, Landscape, Saving

SMALL = Space(SPACE.shapes, SPACE.dimensions, ladder=(0, 1))
CANDIDATES = [Candidate(SMALL.uniform(1))]
WHERE = {(os, "replace"), (os, "rename"), (os, "fsync"), (DefaultDialect, "do_commit")}


class Points:
    """Counts the points, and lets a fault befall the process at one of them.

    Args:
        at: the point; None for no fault.
        fault: ``killed`` or ``full``; a full disk only before something is written.
    """

    def __init__(self, at: int | None, fault: str) -> None:
        self.passed = 0
        self._at = at
        self._fault = fault

    def pass_by(self, name: str, *, after: bool) -> None:
        if after and self._fault == "full":
            return
        self.passed += 1
        if self.passed - 1 != self._at:
            return
        if self._fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "do_commit":
            raise sqlite3.OperationalError("database or disk is full")
        raise OSError(errno.ENOSPC, "No space left on device")

    @contextmanager
    def watched(self) -> Iterator[None]:
        kept = {(place, name): getattr(place, name) for place, name in WHERE}
        for (place, name), call in kept.items():
            setattr(place, name, self._wrapped(name, call))
        yield
        for (place, name), call in kept.items():
            setattr(place, name, call)

    def _wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            self.pass_by(name, after=False)
            found = call(*arguments, **options)
            self.pass_by(name, after=True)
            return found

        return wrapped


def study(folder: Path) -> optuna.Study:
    """All that a run does with a study's files: trials of every kind in packs, and trainings for the verdict."""
    folder.mkdir(exist_ok=True)
    bench = Bench(StudyFolder(folder))
    with bench.folder.locked():
        options = {"baselines": ["svd"], "repeats": 2, "sole_driver": True, "pack": 2}
        found = bench.search(5, Saving(), SMALL, **options)
        FreshTrainings(bench.handle(), 0).run(CANDIDATES, 1, Serial(Landscape().train), lambda *_: None)
    return found


def state(folder: Path) -> dict[str, Any]:
    """All that is to come out the same."""
    found = study(folder)
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {
        "trials": [
            [trial.number, trial.params, trial.values, trial.state.name, trial.user_attrs.get("seed")]
            for trial in found.trials
        ],
        "files": {
            name: path.read_text() for name, path in sorted(files.items()) if name not in {"study.db", "driver.lock"}
        },
    }


def forked(act: Callable[[], None]) -> int:
    """Status of a child that does something; 0 if it came through, 3 if it says that the disk is full."""
    child = os.fork()
    if not child:
        try:
            act()
        except BaseException as error:
            # What the command line says in one line.
            if isinstance(error, Exception) and "disk is full" in str(out_of_service(error)):
                os._exit(3)
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(place: Path, fault: str, every: int = 1) -> None:
    """Prints how many points there are, and at which of those tried (every so many) something came out wrong."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    whole = place / "whole"

    def count() -> None:
        points = Points(None, fault)
        with points.watched():
            study(whole)
        (place / "count").write_text(str(points.passed))
        (place / "expected").write_text(json.dumps(state(whole)))

    assert forked(count) == 0
    expected, count_of_points = json.loads((place / "expected").read_text()), int((place / "count").read_text())
    wrong = []
    for at in range(0, count_of_points, every):
        folder = place / "broken"
        shutil.rmtree(folder, ignore_errors=True)

        def broken(folder: Path = folder, at: int = at) -> None:
            with Points(at, fault).watched():
                study(folder)

        def resumed(folder: Path = folder) -> None:
            (place / "found").write_text(json.dumps(state(folder)))

        if at % 50 == 0:
            print(f"{at} of {count_of_points}", file=sys.stderr, flush=True)
        ended = forked(broken)
        if ended not in ({-signal.SIGKILL} if fault == "killed" else {0, 3}) or forked(resumed) != 0:
            wrong.append((at, "ended with", ended))
        elif (found := json.loads((place / "found").read_text())) != expected:
            wrong.append((at, "differs", found))
    print(json.dumps({"points": count_of_points, "wrong": wrong}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))
