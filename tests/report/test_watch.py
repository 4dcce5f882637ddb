"""The page of a study that is at work."""

import itertools

import pytest

from rank_search.errors import TrainingFailed
from rank_search.report import watch as watching
from rank_search.report.watch import watch
from tests.bench import Landscape, record

REFRESH = '<meta http-equiv="refresh"'


@pytest.fixture
def looks(bench, monkeypatch):
    """What the page was after each look, and a way to watch a study that works for so many of them."""
    found: list[str] = []

    def run(out, works: int, between=lambda _: None) -> list[str]:
        numbers = itertools.count()
        monkeypatch.setattr(watching, "is_running", lambda _study: next(numbers) < works)
        told: list[str] = []

        def slept(_seconds) -> None:
            page = out / "index.html"
            found.append(page.read_text() if page.exists() else "")
            between(len(found))

        monkeypatch.setattr(watching.time, "sleep", slept)
        clock = itertools.count()
        monkeypatch.setattr(watching.time, "monotonic", lambda: next(clock))
        watch(lambda: (bench.study(), record(), bench.folder), out, told.append, idle=2)
        return told

    return found, run


def test_page_follows_the_study_until_it_rests(bench, tmp_path, looks) -> None:
    found, run = looks
    out = tmp_path / "reports" / "small"
    bench.search(3)
    told = run(out, 3, lambda look: bench.search(5) if look == 2 else None)
    assert [REFRESH in page for page in found[:3]] == [True] * 3
    assert "3 trials so far" in found[0]
    assert "5 trials so far" in found[2]
    last = (out / "index.html").read_text()
    assert REFRESH not in last
    assert "so far" not in last
    assert [path.name for path in out.iterdir()] == ["index.html"]
    assert told == [f"{count} trials: {out / 'index.html'}" for count in (3, 5, 5)]


def test_study_without_scores_is_waited_for(bench, tmp_path, looks) -> None:
    found, run = looks
    out = tmp_path / "report"
    bench.search(1, Landscape({0: TrainingFailed("x")}))
    told = run(out, 2, lambda look: bench.search(3) if look == 1 else None)
    assert "no trial of the study has a score yet" in told[0]
    assert (found[0], REFRESH in found[1]) == ("", True)
