"""Keeps a study's page fresh while the study runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rank_search.errors import RankSearchError
from rank_search.report.page import write_page
from rank_search.report.summary import summarise
from rank_search.search.table import is_running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from optuna import Study

    from rank_search.search.record import StudyRecord
    from rank_search.search.storage import StudyFolder

    Look = Callable[[], tuple[Study, StudyRecord, StudyFolder]]

_EVERY = 5.0  # seconds between two looks at the study
_IDLE = 60.0  # seconds without a trial in training after which a study is at rest: proposals take some
_REFRESH = 15  # seconds after which the page loads itself anew


def watch(look: Look, out: Path, told: Callable[[str], None], idle: float = _IDLE) -> None:
    """Writes a study's page whenever trials were finished, until nothing has been in training for a while.

    Only ``index.html`` is written, in one step; the rest of the report is the run's, at its end. While the study runs
    the page loads itself anew; what is pinned and chosen on it stays.

    Args:
        look: opens the study.
        out: the folder of its report.
        told: is given lines for people.
        idle: seconds.
    """
    seen, active = None, time.monotonic()
    while True:
        study, record, folder = look()
        if is_running(study):
            active = time.monotonic()
        rests = time.monotonic() - active >= idle
        finished = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
        if (finished, rests) != seen:
            seen = (finished, rests)
            try:
                write_page(summarise(study, record, folder), out / "index.html", None if rests else _REFRESH)
                told(f"{finished} trials: {out / 'index.html'}")
            except RankSearchError as error:
                told(str(error))
            except FileNotFoundError:  # the run has just put its own report in the place of the folder
                seen = None
        if rests:
            return
        time.sleep(min(_EVERY, idle))
