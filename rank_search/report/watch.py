"""Keeps a study's page fresh while the study runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rank_search.core.errors import RankSearchError
from rank_search.report.folder import ReportFolder
from rank_search.report.page import write_page
from rank_search.report.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rank_search.study.handle import Study

_EVERY = 5.0  # seconds between two looks at the study
IDLE = 60.0  # seconds without a trial in training after which a study is at rest: proposals take some
_REFRESH = 15  # seconds after which the page reloads


def watch(
    study: Study,
    out: Path,
    say: Callable[[str], None],
    *,
    idle: float = IDLE,
) -> None:
    """Writes a study's page whenever trials were finished, until nothing has been in training for a while.

    Only ``index.html`` is written, in one step; the rest of the report is the run's, at its end. While the study runs
    the page reloads; what is pinned and chosen on it stays. However this ends, the page no longer reloads.

    Args:
        study: the study.
        out: the folder of its report.
        say: is given lines for people.
        idle: seconds.

    Raises:
        InputError: the folder is no place for this study's report.
    """
    folder = ReportFolder.of_study(out, study.name, study.metadata)
    folder.check()

    def write(refresh: int | None) -> None:
        try:
            write_page(summarise(study), folder, study.name_in_commands, refresh)
            say(f"{_finished(study)} trials: {out / 'index.html'}")
        except RankSearchError as error:
            say(str(error))

    shown, active, started = None, None, time.monotonic()
    try:
        while time.monotonic() - (active or started) < idle:
            if study.is_running():
                active = time.monotonic()
            state = (_finished(study), active is not None)
            if state != shown:
                write(_REFRESH if active else None)
                shown = state
            time.sleep(min(_EVERY, idle))
    finally:
        write(None)


def _finished(study: Study) -> int:
    return sum(trial.state.is_finished() for trial in study.trials())
