"""``run``: runs or resumes a study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rank_search.cli.options import DEMO, ConfigArgument, SetOption, StorageOption
from rank_search.cli.output import progress_console
from rank_search.core.extras import is_installed

if TYPE_CHECKING:
    from rank_search.study.handle import Study
    from rank_search.study.metadata import StudyMetadata


def run(
    config: ConfigArgument = DEMO,
    overrides: SetOption = None,
    executor: Annotated[
        str | None, typer.Option(help="Where to train: local, or ray; the same as --set executor.kind=…")
    ] = None,
    storage: StorageOption = None,
) -> None:
    """Runs or resumes a study, then writes its report."""
    from rank_search.app.configs import load_study_file, naming_source
    from rank_search.app.reports import check_reports_folder

    overrides = [*(overrides or []), *([f"executor.kind={executor}"] if executor else [])]
    settings = load_study_file(config, overrides)
    check_reports_folder()
    from rank_search.app.run import run_study  # loads torch, so after the checks

    with naming_source(config, overrides):
        run_study(settings, storage, progress_console(), _write_report, _check_report)


def _check_report(study: str, metadata: StudyMetadata) -> None:
    from rank_search.app.reports import check_report_folder

    if is_installed("report"):
        check_report_folder(study, metadata)


def _write_report(study: Study) -> None:
    from rank_search.app.reports import verdict_headline, write_study_report

    if is_installed("report"):
        summary, page = write_study_report(study)
        print(summary.verdict.headline)
        print(f"report: {page}")
    else:
        print(verdict_headline(study))
        print(f"no report was written; pip install 'rank_search[report]', then: report {study.name_in_commands}")
