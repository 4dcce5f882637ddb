"""Where reports are written; what they hold is tested in tests/report/."""

from pathlib import Path

import pytest

from rank_search.app import reports
from rank_search.core.errors import InputError
from tests.bench import Bench, StudyFolder


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def searched(bench, trials, **options):
    bench.search(trials, **options)
    return bench.handle()


def test_reports_must_be_a_folder(here) -> None:
    reports.check_reports_folder()
    (here / "reports").mkdir()
    reports.check_reports_folder()
    (here / "reports").rmdir()
    (here / "reports").write_text("a file")
    with pytest.raises(InputError, match=r"^reports: is not a folder"):
        reports.check_reports_folder()


@pytest.mark.slow
def test_report_of_a_study(here, bench) -> None:
    summary, page = reports.write_study_report(searched(bench, 4))
    assert page == Path("reports/small/index.html")
    assert page.is_file()
    assert summary.name == "small"


def test_page_is_watched_where_the_report_will_be(here, bench, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr("rank_search.report.watch.watch", lambda *arguments, **options: calls.append(arguments[:2]))
    study = searched(bench, 1)
    reports.watch_study(study, print)
    assert calls == [(study, Path("reports/small"))]


@pytest.mark.slow
def test_comparison_is_named_after_its_studies(here) -> None:
    opened = []
    for name in ("one", "two"):
        folder = StudyFolder(here / "studies" / name)
        folder.path.mkdir(parents=True)
        opened.append(searched(Bench(folder), 4))
    page = reports.compare_studies(opened)
    assert page == Path("reports/one+two/index.html")
    assert page.is_file()
