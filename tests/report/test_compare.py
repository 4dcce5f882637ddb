"""Several studies on one page."""

from dataclasses import replace

import pytest

from rank_search.analysis.front import hypervolume
from rank_search.core.errors import InputError
from rank_search.report.compare import compared, write_comparison
from rank_search.report.summary import summarise
from tests.bench import Bench, StudyFolder
from tests.browser import opened
from tests.conftest import in_process

pytestmark = pytest.mark.slow


@pytest.fixture
def summaries(tmp_path):
    """Of two studies that differ by their seed."""
    found = []
    for seed, name in enumerate(("first", "second")):
        folder = StudyFolder(tmp_path / "studies" / name)
        folder.path.mkdir(parents=True)
        Bench(folder).search(14, seed=seed)
        found.append(replace(summarise(Bench(folder).handle()), name=name))
    return found


def with_other_data(summary):
    return replace(summary, metadata=replace(summary.metadata, data_fingerprint="other"))


def test_hypervolumes_are_against_one_point(summaries) -> None:
    first, second = summaries
    second = replace(second, reference=(first.reference[0] - 0.1, first.reference[1] * 2))
    for study in compared([first, second]):
        assert study.gain == 0
        assert study.hypervolume == hypervolume(study.summary.maps, second.reference)


def test_other_data_are_compared_by_gains(summaries) -> None:
    first, second = summaries[0], with_other_data(summaries[1])
    for study in compared([first, second]):
        untrained = study.summary.maps.query("trainable_parameters == 0")["score"].iloc[0]
        assert (study.gain, study.hypervolume) == (untrained, None)
        prices, gains = study.points(study.uniform)
        ranked = study.uniform.query("trainable_parameters > 0")
        assert prices == ranked["trainable_parameters"].tolist()
        assert gains == pytest.approx((ranked["score"] - untrained).tolist())
    maps = first.maps.query("trainable_parameters > 0")
    with pytest.raises(InputError, match="'first' has another metric or other data"):
        compared([replace(first, maps=maps), second])


def test_studies_of_one_name_are_told_apart(summaries) -> None:
    assert [study.name for study in compared([summaries[0], summaries[0]])] == ["first (1)", "first (2)"]


def test_page_shows_all_studies(summaries, browser, tmp_path) -> None:
    out = tmp_path / "reports" / "both"
    write_comparison([summaries[0], with_other_data(summaries[1])], out)
    assert {path.name for path in out.iterdir()} == {"index.html", "fronts.png", "manifest.json"}
    with opened(browser, out / "index.html") as found:
        legend = found.page.locator("#fronts .legendtext").all_text_contents()
        assert legend == ["first", "first, uniform ranks", "second", "second, uniform ranks"]
        fronts = sum((study.front["trainable_parameters"] > 0).sum() for study in summaries)
        assert found.page.locator("#fronts .points path.point").count() == fronts + 2 * 3
        verdicts = found.page.locator("h3 + p").all_text_contents()
        assert verdicts == [study.verdict.text for study in summaries]
        assert "can't be compared" in found.page.locator("main > p").first.text_content()
        assert (found.asked, found.said) == ([], [])


def test_command_compares(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        folder = StudyFolder(tmp_path / "studies" / name)
        folder.path.mkdir(parents=True)
        Bench(folder).search(6)
    paths = ["studies/one", "studies/two"]
    status, out, said = in_process("report", *paths)
    assert (status, out, said) == (0, "report: reports/one+two/index.html\n", "")
    assert "<h1>one against two</h1>" in (tmp_path / "reports/one+two/index.html").read_text()
    status, _, said = in_process("report", *paths, "--paper")
    assert (status, said) == (2, "rank_search: --paper: is for one study\n")
