"""The command line, as a user meets it when something is wrong; no model is trained here."""

import json
import subprocess
import sys

import pytest
import yaml

from tests.bench import EMBEDDED

SETTINGS = {"study": "mine", "model": {"source": EMBEDDED}, "task": {"kind": "retrieval"}}


@pytest.fixture
def study_file(command):
    (command.folder / "mine.yaml").write_text(yaml.safe_dump(SETTINGS))
    return "mine.yaml"


def refused(command, *arguments) -> str:
    """Runs a command that must be refused, and returns the one line that says why."""
    before = command.files()
    result = command(*arguments)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert command.files() == before
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0].removeprefix("rank_search: ")


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
        ("d.csv", "text,label\n", {}, "mine.yaml: task.data.train: d.csv holds no rows"),
        ("d.csv", "text,label\na,b\n", {}, "mine.yaml: task.data: validation is empty: the data has 1 training"),
    ],
)
def test_wrong_data(command, study_file, name, content, settings, expected) -> None:
    (command.folder / name).write_text(content)
    task = {"kind": "classification", "data": name, **settings}
    (command.folder / study_file).write_text(yaml.safe_dump({**SETTINGS, "task": task}))
    assert refused(command, "run", study_file).startswith(expected)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--kind", "clasification"), "--kind: 'clasification' is no task; did you mean 'classification'?"),
        (("--kind", "rag"), "--retriever: is missing: rag needs a sentence embedder beside --model"),
        (("--kind", "retrieval", "--retriever", "x"), "--retriever: is of no use to retrieval; leave it out"),
        ((), "--data: './absent.jsonl' is neither a file nor a folder here; mend the path"),
    ],
)
def test_init_refuses(command, arguments, expected) -> None:
    assert refused(command, "init", "--model", EMBEDDED, "--data", "./absent.jsonl", *arguments) == expected


def test_reports_that_can_not_be_written_are_told_before_training(command, study_file) -> None:
    (command.folder / "reports").write_text("a file")
    assert refused(command, "run", study_file) == "reports: is no folder, and reports go there; move it away"


def test_schema_is_that_of_the_study_file(command) -> None:
    schema = json.loads(command("schema").stdout)
    assert schema["required"] == ["study", "model", "task"]
    assert set(schema["properties"]["task"]["discriminator"]["mapping"]) == {
        "retrieval",
        "classification",
        "generation",
        "rag",
    }
    assert yaml.safe_load(command("schema", "--template").stdout)["study"] == "template"


def test_plan_refuses_in_the_same_words(command, study_file) -> None:
    (command.folder / study_file).write_text(yaml.safe_dump({**SETTINGS, "space": {"ladder": [1, 512]}}))
    line = refused(command, "plan", study_file)
    assert line.startswith("mine.yaml: space.ladder: rank 512 is above")


def test_missing_file(command) -> None:
    assert refused(command, "run", "absent.yaml") == (
        "absent.yaml: no such file; name a study file, or leave it out for the demo"
    )


@pytest.mark.parametrize("verb", ["status", "report", "choose", "export"])
def test_unknown_study(command, verb) -> None:
    options = ("--to", "peft", "--out", "out") if verb == "export" else ()
    assert refused(command, verb, "absent", *options) == "STUDY: no study 'absent'; known: none"


def test_rule_is_checked_before_the_study_is_looked_for(command) -> None:
    assert refused(command, "choose", "absent", "--rule", "kneee").startswith("--rule: 'kneee' is no rule")


def test_password_of_a_storage_is_never_shown(command, study_file) -> None:
    url = "postgresql+psycopg://me:hunter2@127.0.0.1:1/studies"
    absent = refused(command, "run", study_file, "--storage", "sqlite:////absent/folder/x.db")
    assert absent == "--storage: '/absent/folder' is no folder; make it first"
    for arguments in (("run", study_file), ("status", "mine")):
        line = refused(command, *arguments, "--storage", url)
        assert line.startswith("--storage: can't be opened")
        assert "hunter2" not in line


def loaded_by(*arguments: str) -> set[str]:
    """Modules that a command line loads."""
    script = (
        "import sys; sys.argv = ['rank_search', *sys.argv[1:]]\n"
        "from rank_search.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(' '.join(sys.modules), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    return set(result.stderr.split())


def test_help_loads_neither_torch_nor_transformers() -> None:
    assert not loaded_by("--help") & {"torch", "transformers", "optuna", "pandas", "matplotlib"}


@pytest.mark.parametrize("verb", ["status", "report", "choose"])
def test_work_on_a_finished_study_loads_no_torch(bench, verb) -> None:
    bench.search(6)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(bench.folder.path.parent)
        modules = loaded_by(verb, "./small")
    assert "optuna" in modules
    assert not modules & {"torch", "transformers", "peft"}


def test_json_is_one_object_and_nothing_else(bench, command) -> None:
    bench.search(6)
    for verb in ("status", "choose"):
        result = command(verb, str(bench.folder.path), "--json")
        assert result.returncode == 0, result.stderr
        content = json.loads(result.stdout)
        assert content["study"] == "small"
    assert content["rule"] == "within-one-se"
    assert content["ranks"].keys() == {f"layer.{i}.w" for i in range(4)}


def test_status_tells_failures_by_reason(bench, command) -> None:
    from rank_search.core.errors import TrainingFailed
    from tests.bench import Landscape

    bench.search(6, Landscape({1: TrainingFailed("boom"), 3: TrainingFailed("boom")}))
    result = command("status", str(bench.folder.path))
    assert "small: idle; trials: 4 complete, 2 fail; hypervolume" in result.stdout
    assert "failed 2 ×: boom" in result.stdout


def test_bound_that_nothing_meets_is_a_failure_not_a_traceback(bench, command) -> None:
    bench.search(6)
    result = command("choose", str(bench.folder.path), "--rule", "min-score=9")
    assert result.returncode == 1
    assert result.stderr.startswith("rank_search: no map meets min-score=9")
    assert len(result.stderr.splitlines()) == 1
