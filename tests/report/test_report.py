"""The folder of a report."""

import dataclasses
import json
import re

import pandas as pd
import pytest

from rank_search.core.errors import RankSearchError, TrainingFailed
from rank_search.core.space import JointSetting
from rank_search.report.page import write_report
from rank_search.report.summary import summarise, summary_json
from tests.bench import REPORT, SPACE, Landscape, metadata
from tests.report.conftest import measured

pytestmark = pytest.mark.slow


def reported(bench, out, trials=12, executor=None):
    bench.search(trials, executor)
    return write_report(bench.handle(), out)


def test_failures_are_on_the_page_and_in_the_table(bench, tmp_path) -> None:
    reported(bench, tmp_path / "report", 6, Landscape({2: TrainingFailed("<b>loss</b> is nan")}))
    page = (tmp_path / "report" / "index.html").read_text()
    assert "&lt;b&gt;loss&lt;/b&gt;" in page
    table = pd.read_csv(tmp_path / "report" / "trials.csv")
    assert table["state"].tolist() == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    assert json.loads(table["ranks"][3])["layer.0.w"] == 4


def test_report_is_a_folder_whose_page_links_to_files_beside_it(bench, tmp_path) -> None:
    out = tmp_path / "report"
    summary = reported(bench, out)
    assert {path.name for path in out.iterdir()} == REPORT
    assert (out / "summary.json").read_text() == summary_json(summary)
    text = (out / "index.html").read_text().partition("<script")[0]
    links = re.findall(r'(?:src|href)="([^"]+)"', text)
    beside = [link for link in links if not link.startswith("data:image/png;base64,")]
    assert 0 < len(beside) < len(links)
    assert [link for link in beside if not (out / link).is_file()] == []


def test_page_shows_the_examples_of_the_test_split(bench, tmp_path) -> None:
    bench.search(12)
    bench.folder.write_test(*measured(summarise(bench.handle())))
    write_report(bench.handle(), tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    assert "find f" in page
    assert '<pre tabindex="0" class="relevant">1. def f(): pass</pre>' in page
    assert '<pre tabindex="0" class="relevant">forty-two</pre>' in page
    assert "right: <b>42</b>" in page
    assert "&lt;script&gt;" in page


def test_page_tells_of_head_settings_and_cut_texts(bench, tmp_path) -> None:
    space = dataclasses.replace(SPACE, joint={"alpha": JointSetting(1, 16, 4, log=True)})
    bench.search(6, space=space)
    said = {"head": ("classifier",), "head_parameters": 1234, "cut": {"texts": (5, 90)}, "notes": ("2 <are> out",)}
    kept = dataclasses.replace(metadata(space), **said)
    summary = write_report(dataclasses.replace(bench.handle(space), metadata=kept), tmp_path / "report")
    page = " ".join((tmp_path / "report" / "index.html").read_text().split())
    assert "also trains the 1,234 parameters of the head (classifier)" in page
    assert "5 of 90 texts are longer" in page
    assert "<p>Data: 2 &lt;are&gt; out.</p>" in page
    assert f"Trained at alpha {summary.chosen.settings['alpha']:.4g}." in page


@pytest.mark.parametrize("trials", [1, 2, 3])
def test_small_studies_can_be_reported(bench, tmp_path, trials) -> None:
    reported(bench, tmp_path / "report", trials)
    alone = {"differences.png"} if trials == 1 else set()  # rank 0 has no uniform map to be compared with
    assert {path.name for path in (tmp_path / "report").iterdir()} == REPORT - alone


def test_study_without_scores_writes_nothing(bench, tmp_path) -> None:
    executor = Landscape({0: TrainingFailed("x"), 1: TrainingFailed("y")})
    with pytest.raises(RankSearchError, match="no trial of the study has a score yet"):
        reported(bench, tmp_path / "report", 2, executor)
    assert not (tmp_path / "report").exists()
