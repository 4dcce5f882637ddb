"""``run``: what it refuses before training, and what it prints; no model is trained here."""

import pytest
import yaml

from tests.cli.conftest import SETTINGS, refused
from tests.conftest import in_process


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.stepz=5", "--set: training.stepz: unknown key; did you mean 'steps'?"),
        ("training.steps=many", "--set: training.steps: 'many' is wrong"),
        ("space.ladder=[]", "--set: space.ladder: [] has no rank above 0"),
        ("space.ladder=[1, 512]", "--set: space.ladder: rank 512 is above min(in, out) = 384 of 'encoder.layer.0"),
        ("space.targets=[qurey]", "--set: space.targets: 'qurey' names no linear layer"),
        ("model.source=./absent", "--set: model.source: './absent' is neither a folder here nor a hub id"),
        ("model.source=no-one/nothing", "--set: model.source: 'no-one/nothing' can't be loaded"),
        (f"model.sha256={'a' * 64}", "--set: model.sha256: "),
    ],
)
def test_wrong_settings(command, study_file, override, expected) -> None:
    assert refused(command, "run", study_file, "--set", override).startswith(expected)


TEXTS = '{"text": "one", "label": "a"}\n{"text": "two", "label": "b"}\n'


@pytest.mark.parametrize(
    ("name", "content", "settings", "expected"),
    [
        ("d.jsonl", TEXTS + "{]\n", {}, "d.jsonl: line 3 is not JSON (Expecting property name"),
        (
            "d.jsonl",
            TEXTS,
            {"columns": {"text": "txt"}},
            "mine.yaml: task.columns.text: the data has no column 'txt'; did",
        ),
        ("d.csv", "text,label\n", {}, "mine.yaml: task.data.train: d.csv has no rows"),
        ("d.csv", "text,label\na,b\n", {}, "mine.yaml: task.data: validation is empty: the data has 1 training"),
    ],
)
def test_wrong_data(command, study_file, name, content, settings, expected) -> None:
    (command.folder / name).write_text(content)
    task = {"kind": "classification", "data": name, **settings}
    (command.folder / study_file).write_text(yaml.safe_dump({**SETTINGS, "task": task}))
    assert refused(command, "run", study_file).startswith(expected)


def test_reports_that_can_not_be_written_are_refused_before_training(command, study_file) -> None:
    (command.folder / "reports").write_text("a file")
    expected = "reports: is not a folder, and reports are written there; move it away"
    assert refused(command, "run", study_file) == expected


def test_missing_file(command) -> None:
    assert refused(command, "run", "absent.yaml") == (
        "absent.yaml: no such file; name a study file, or leave it out to run the demo"
    )


@pytest.fixture
def finished(bench, tmp_path, monkeypatch):
    """What `run_study` was called with; its study is a small one that is finished."""
    monkeypatch.chdir(tmp_path)
    calls = []

    def run_study(config, storage, console, on_end, check):
        calls.append((config, storage, console))
        bench.search(6)
        on_end(bench.handle())

    monkeypatch.setattr("rank_search.app.run.run_study", run_study)
    return calls


@pytest.mark.slow
def test_demo_is_run_by_default_and_its_report_written(finished, tmp_path) -> None:
    status, out, said = in_process("run", "--set", "search.trials=6", "--executor", "ray")
    assert (status, said) == (0, "")
    verdict, report = out.splitlines()
    assert verdict
    assert report == "report: reports/small/index.html"
    assert (tmp_path / "reports" / "small" / "summary.json").is_file()
    ((config, storage, console),) = finished
    assert (config.study, config.search.trials, config.executor.kind, storage) == ("demo", 6, "ray", None)
    assert console.stderr


def test_driver_that_leaves_the_rest_to_another_prints_nothing(finished, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("rank_search.app.run.run_study", lambda *_: None)
    assert in_process("run") == (0, "", "")
    assert not (tmp_path / "reports").exists()
