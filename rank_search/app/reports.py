"""Writes reports under ``reports/``. Matplotlib and Plotly are imported when a report is written, not by the check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rank_search.core.errors import InputError
from rank_search.report.folder import ReportFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rank_search.report.summary import Summary
    from rank_search.study.handle import Study
    from rank_search.study.metadata import StudyMetadata

REPORTS = Path("reports")


def check_reports_folder() -> None:
    """Checks that reports can be written, before a study is trained.

    Raises:
        InputError: ``reports`` is not a folder.
    """
    if REPORTS.exists() and not REPORTS.is_dir():
        raise InputError("is not a folder, and reports are written there; move it away", file=str(REPORTS))


def check_report_folder(study: str, metadata: StudyMetadata) -> None:
    """Checks that a study's report can be written, before the study is trained.

    Raises:
        InputError: its folder under ``reports`` is a link, or holds the report of another study.
    """
    ReportFolder.of_study(REPORTS / study, study, metadata).check()


def write_study_report(study: Study, *, paper: bool = False) -> tuple[Summary, Path]:
    """Writes a study's report; see `rank_search.report.page.write_report`.

    Returns:
        What the report says, and the path of its page.

    Raises:
        RankSearchError: the study has no scored trial yet.
    """
    from rank_search.report.page import write_report

    out = REPORTS / study.folder.name
    summary = write_report(study, out, paper=paper)
    return summary, out / "index.html"


def verdict_headline(study: Study) -> str:
    """The verdict of a study in one sentence, for where no report is written.

    Raises:
        RankSearchError: the study has no scored trial yet.
    """
    from rank_search.report.summary import summarise

    return summarise(study).verdict.headline


def watch_study(study: Study, on_message: Callable[[str], None]) -> None:
    """Writes a study's page again and again while it runs; see `rank_search.report.watch.watch`."""
    from rank_search.report.watch import watch

    watch(study, REPORTS / study.folder.name, on_message)


def compare_studies(studies: Sequence[Study]) -> Path:
    """Writes one page that compares studies, and returns its path.

    Raises:
        InputError: the studies can't be compared.
        RankSearchError: one has no scored trial yet.
    """
    from rank_search.report.compare import write_comparison
    from rank_search.report.summary import summarise

    out = REPORTS / "+".join(study.folder.name for study in studies)
    write_comparison([summarise(study) for study in studies], out)
    return out / "index.html"
