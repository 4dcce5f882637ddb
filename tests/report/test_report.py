import dataclasses
import json
import re

import pandas as pd
import pytest

from rank_search.core.errors import RankSearchError, TrainingFailed
from rank_search.core.space import JointSetting
from rank_search.report.page import write_report
from tests.bench import REPORT, SPACE, Landscape, record

FIELDS = {"number", "state", "kind", "score", "score_se", "trainable_parameters", "ranks", "seed", "seconds"}


def reported(bench, out, trials=12, executor=None):
    study = bench.search(trials, executor)
    summary = write_report(study, record(), bench.folder, out)
    return study, summary, json.loads((out / "summary.json").read_text())


def test_report_holds_what_the_design_says(bench, tmp_path) -> None:
    out = tmp_path / "report"
    study, _, summary = reported(bench, out)
    assert {path.name for path in out.iterdir()} == REPORT
    assert summary["study"] == "small"
    assert (summary["task"], summary["metric"], summary["direction"]) == ("retrieval", "ndcg@10", "maximize")
    assert set(summary["front"]) == {trial.number for trial in study.best_trials}
    promised = {"trial", "rule", "score", "trainable_parameters", "ranks"}
    assert set(summary["chosen"]) == promised | {"settings", "score_se", "seeds", "front_probability", "explanation"}
    assert {"text", "delta", "ci_low", "ci_high", "baseline"} <= set(summary["verdict"])
    assert all(0 <= row["front_probability"] <= 1 for row in summary["trials"])
    assert len(summary["reference_point"]) == 2
    for row, trial in zip(summary["trials"], study.trials, strict=True):
        assert set(row) >= FIELDS
        assert (row["score"], row["trainable_parameters"]) == tuple(trial.values)
        assert isinstance(row["trainable_parameters"], int)


def test_hypervolume_follows_from_the_front_and_the_reference_point(bench, tmp_path) -> None:
    _, _, summary = reported(bench, tmp_path / "report")
    score, parameters = summary["reference_point"]
    rows = {row["number"]: row for row in summary["trials"]}
    area, floor = 0.0, score
    for number in summary["front"]:
        row = rows[number]
        area += max(0.0, row["score"] - floor) * (parameters - row["trainable_parameters"])
        floor = max(floor, row["score"])
    assert summary["hypervolume"] == pytest.approx(area)


def test_failures_are_reported_and_numbers_stay_json(bench, tmp_path) -> None:
    executor = Landscape({2: TrainingFailed("<b>loss</b> is nan")})
    _, _, summary = reported(bench, tmp_path / "report", 6, executor)
    failed = summary["trials"][2]
    assert (failed["state"], failed["score"], failed["reason"]) == ("FAIL", None, "<b>loss</b> is nan")
    page = (tmp_path / "report" / "index.html").read_text()
    assert "&lt;b&gt;loss&lt;/b&gt;" in page
    table = pd.read_csv(tmp_path / "report" / "trials.csv")
    assert table["state"].tolist() == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    assert json.loads(table["ranks"][3])["layer.0.w"] == 4


def test_links_of_the_page_lead_to_files_beside_it(bench, tmp_path) -> None:
    out = tmp_path / "report"
    reported(bench, out)
    text = (out / "index.html").read_text().partition("<script")[0]
    links = re.findall(r'(?:src|href)="([^"]+)"', text)
    beside = [link for link in links if not link.startswith("data:image/png;base64,")]
    assert 0 < len(beside) < len(links)
    assert [link for link in beside if not (out / link).is_file()] == []


def measured(summary):
    """The contest of a study and what its adapters are said to do on the test split, with one example."""
    passages = [{"text": "def f(): pass", "right": True}, {"text": "<script>", "right": False}]
    shown = {"passages": passages, "answer": {"text": "forty-two", "right": True}}
    contest = {of.role: of.trial for of in summary.contenders}
    values = {"untrained": [0.1, 0.2], **{role: [0.3, 0.4] for role in contest}}
    example = {"title": "largest gain", "text": "find f", "expected": "42", "before": shown, "after": shown}
    metrics = {name: {"ndcg@10": 0.5} for name in values}
    return contest, {"values": values, "metrics": metrics, "examples": [example]}


def test_page_shows_the_examples_of_the_test_split(bench, tmp_path) -> None:
    study, summary, _ = reported(bench, tmp_path / "report")
    contest, test = measured(summary)
    bench.folder.write_test(contest, test)
    again = write_report(study, record(), bench.folder, tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    assert "find f" in page
    assert '<pre tabindex="0" class="relevant">1. def f(): pass</pre>' in page
    assert '<pre tabindex="0" class="relevant">forty-two</pre>' in page
    assert "right: <b>42</b>" in page
    assert "&lt;script&gt;" in page
    assert again.verdict.split == "test"
    bench.folder.write_test({**contest, "chosen": 99}, test)
    assert write_report(study, record(), bench.folder, tmp_path / "report").verdict.split == "validation"


def test_page_tells_of_head_settings_and_cut_texts(bench, tmp_path) -> None:
    space = dataclasses.replace(SPACE, joint={"alpha": JointSetting(1, 16, 4, log=True)})
    study = bench.search(6, space=space)
    kept = dataclasses.replace(record(space), head=("classifier",), head_parameters=1234, cut={"texts": (5, 90)})
    summary = write_report(study, kept, bench.folder, tmp_path / "report")
    page = " ".join((tmp_path / "report" / "index.html").read_text().split())
    assert "also trains the 1,234 parameters of the head (classifier)" in page
    assert "5 of 90 texts are longer" in page
    assert f"Searched beside the ranks: alpha {summary.chosen.settings['alpha']:.4g}." in page
    written = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert (written["head_parameters"], written["cut"]) == (1234, {"texts": [5, 90]})
    assert all(set(row["settings"]) == {"alpha"} for row in written["trials"])


@pytest.mark.parametrize("trials", [1, 2, 3])
def test_small_studies_can_be_reported(bench, tmp_path, trials) -> None:
    reported(bench, tmp_path / "report", trials)
    assert {path.name for path in (tmp_path / "report").iterdir()} == REPORT


def test_study_without_scores_writes_nothing(bench, tmp_path) -> None:
    executor = Landscape({0: TrainingFailed("x"), 1: TrainingFailed("y")})
    with pytest.raises(RankSearchError, match="no trial of the study has a score yet"):
        reported(bench, tmp_path / "report", 2, executor)
    assert not (tmp_path / "report").exists()
