"""The page of a study that is at work."""

import itertools
from types import SimpleNamespace

import pytest

from rank_search.core.errors import InputError, TrainingFailed
from rank_search.report import watch as watching
from rank_search.report.folder import ReportFolder
from rank_search.report.page import write_report
from rank_search.study.handle import Study
from tests.bench import REPORT, Landscape
from tests.conftest import in_process

pytestmark = pytest.mark.slow

REFRESH = '<meta http-equiv="refresh"'


@pytest.fixture
def looks(bench, monkeypatch):
    """What the page was after each look, and a way to watch a study that works for so many of them."""
    found: list[str] = []

    def run(out, works: int, between=lambda _: None) -> list[str]:
        numbers, clock, told = itertools.count(), itertools.count(), []
        monkeypatch.setattr(Study, "is_running", lambda _study: next(numbers) < works)

        def slept(_seconds) -> None:
            page = out / "index.html"
            found.append(page.read_text() if page.exists() else "")
            between(len(found))

        monkeypatch.setattr(watching, "time", SimpleNamespace(sleep=slept, monotonic=lambda: next(clock)))
        watching.watch(bench.handle(), out, told.append, idle=5)
        return told

    return found, run


def test_page_follows_the_study_until_it_rests(bench, tmp_path, looks) -> None:
    found, run = looks
    out = tmp_path / "reports" / "small"
    bench.search(3)
    told = run(out, 3, lambda look: bench.search(5) if look == 2 else None)
    assert all(REFRESH in page for page in found)
    assert "3 trials so far" in found[0]
    assert "5 trials so far" in found[2]
    last = (out / "index.html").read_text()
    assert REFRESH not in last
    assert "so far" not in last
    assert {path.name for path in out.iterdir()} == {"index.html", "manifest.json"}
    assert told == [f"{count} trials: {out / 'index.html'}" for count in (3, 5, 5)]


def test_study_at_rest_is_not_said_to_be_at_work(bench, tmp_path, looks) -> None:
    found, run = looks
    bench.search(3)
    run(tmp_path / "report", 0)
    assert found
    assert not any(REFRESH in page for page in found)


def test_page_does_not_go_on_by_itself_when_watching_is_broken_off(bench, tmp_path, looks) -> None:
    found, run = looks
    out = tmp_path / "report"
    bench.search(3)

    def interrupted(_look) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(out, 99, interrupted)
    assert REFRESH in found[0]
    assert REFRESH not in (out / "index.html").read_text()


def test_study_without_scores_is_waited_for(bench, tmp_path, looks) -> None:
    found, run = looks
    out = tmp_path / "report"
    bench.search(1, Landscape({0: TrainingFailed("x")}))
    told = run(out, 3, lambda look: bench.search(3) if look == 1 else None)
    assert "no trial of the study has a score yet" in told[0]
    assert (found[0], REFRESH in found[1]) == ("", True)


def test_report_that_is_written_meanwhile_keeps_its_other_files(bench, tmp_path, looks) -> None:
    _, run = looks
    out = tmp_path / "reports" / "small"
    bench.search(3)

    def written(look) -> None:
        if look == 1:
            bench.search(4)
            write_report(bench.handle(), out)

    run(out, 3, written)
    assert {path.name for path in out.iterdir()} == REPORT
    assert REFRESH not in (out / "index.html").read_text()


def test_folder_of_another_study_is_refused_at_once(bench, tmp_path, looks) -> None:
    _, run = looks
    bench.search(3)
    ReportFolder(tmp_path / "report", "other").write_page("theirs")
    with pytest.raises(InputError, match="holds the report of another study"):
        run(tmp_path / "report", 3)
    assert (tmp_path / "report" / "index.html").read_text() == "theirs"


def test_verb(bench, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(watching.watch, "__kwdefaults__", {"idle": 0.1})
    bench.search(3)
    status, out, said = in_process("report", str(bench.folder.path), "--watch")
    assert (status, out, said) == (0, "3 trials: reports/small/index.html\n" * 2, "")
    assert (tmp_path / "reports" / "small" / "index.html").is_file()
    status, _, said = in_process("report", str(bench.folder.path), "--watch", "--paper")
    assert (status, said) == (2, "rank_search: --paper: can't be used together with --watch; leave one of them out\n")
