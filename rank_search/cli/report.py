"""``report``: a study's report, or a page that compares studies."""

from __future__ import annotations

from typing import Annotated

import typer

from rank_search.cli.options import StorageOption
from rank_search.cli.study import open_study
from rank_search.core.errors import InputError
from rank_search.core.extras import require_extra


def report(
    studies: Annotated[
        list[str], typer.Argument(help="Name under studies/, or path of a study's folder; several are compared.")
    ],
    watched: Annotated[
        bool, typer.Option("--watch", help="Write the page again and again while the study runs.")
    ] = False,
    paper: Annotated[
        bool, typer.Option("--paper", help="Also write single-column PDF figures and a LaTeX table of the front.")
    ] = False,
    storage: StorageOption = None,
) -> None:
    """Writes the report of a study, or compares several.

    reports/STUDY/ gets the page, the figures, trials.csv and summary.json. With several studies it is one page that
    compares them.
    """
    if len(studies) > 1 and (watched or paper):
        raise InputError("is for one study", field="--watch" if watched else "--paper")
    if watched and paper:
        raise InputError("can't be used together with --watch; leave one of them out", field="--paper")
    require_extra("report", "a report")
    from rank_search.app.reports import compare_studies, watch_study, write_study_report

    opened = [open_study(study, storage) for study in studies]
    if len(studies) > 1:
        print(f"report: {compare_studies(opened)}")
    elif watched:
        watch_study(opened[0], print)
    else:
        summary, page = write_study_report(opened[0], paper=paper)
        print(summary.verdict.headline)
        print(f"report: {page}")
