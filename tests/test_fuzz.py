"""Ten thousand study files and command lines that nobody would write, nearly all of them wrong.

Each is refused in one line with exit status 2 (or 1 where a command fails later), or is right after all; never is
there a traceback, an exit status 0 for nonsense, or a file where none belongs.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rank_search.config import StudyConfig, load_config
from rank_search.core.errors import InputError
from tests.conftest import ROOT, in_process

pytestmark = pytest.mark.slow

CONFIGS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "configs").glob("*.yaml"))}
FILES, LINES = 6000, 4000
FUZZ = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": [*HealthCheck]}

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["", "auto", "0", "1e400", "nan", "../..", "/", "~", "rslora", "package:", ":", "a:b", "\0", "🦜"]),
    st.lists(st.one_of(st.integers(-2, 9), st.text(max_size=3), st.none()), max_size=4),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)


def places(settings_: Any, path: tuple = ()) -> list[tuple]:
    """Every place in a study file."""
    found = [path] if path else []
    children = (
        settings_.items()
        if isinstance(settings_, dict)
        else enumerate(settings_ if isinstance(settings_, list) else ())
    )
    for key, value in children:
        found += places(value, (*path, key))
    return found


@st.composite
def mutated(draw) -> Any:
    """A shipped study file with one to three things wrong with it."""
    made = copy.deepcopy(CONFIGS[draw(st.sampled_from(sorted(CONFIGS)))])
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(made) or [("study",)]))
        holder = made
        for key in path[:-1]:
            holder = holder[key]
        kind = draw(st.sampled_from(["replace", "drop", "rename", "add"]))
        if kind == "drop":
            del holder[path[-1]]
        elif kind == "replace" or not isinstance(holder, dict):
            holder[path[-1]] = draw(JUNK)
        elif kind == "rename":
            holder[draw(st.text(max_size=8))] = holder.pop(path[-1])
        else:
            holder[draw(st.text(max_size=8))] = draw(JUNK)
    return made


@st.composite
def broken_text(draw) -> str:
    """The text of a shipped study file, some characters of which are others."""
    text = (ROOT / "configs" / f"{draw(st.sampled_from(sorted(CONFIGS)))}.yaml").read_text()
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.text(max_size=3)) + text[at + draw(st.integers(0, 40)) :]
    return text


FILE = st.one_of(
    mutated().map(lambda made: yaml.safe_dump(made, allow_unicode=True)), broken_text(), st.text(max_size=60)
)


@settings(max_examples=FILES, **FUZZ)
@given(text=FILE)
def test_study_files(text, tmp_path_factory) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    folder.mkdir(exist_ok=True)
    file = folder / "study.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    refused, config = None, None
    try:
        config = load_config(file)
    except InputError as error:
        refused = str(error)
    if config is None:
        assert len(refused.splitlines()) == 1
        assert str(file) in refused
        return
    # What is taken is a whole study file, which says the same when it is written out.
    assert StudyConfig.model_validate(yaml.safe_load(config.to_yaml())) == config
    assert isinstance(yaml.safe_load(text), dict)


WORDS = [
    *("run", "plan", "status", "report", "choose", "export", "verify", "doctor", "init", "schema", "frobnicate"),
    *(
        "--set",
        "--rule",
        "--to",
        "--out",
        "--trial",
        "--json",
        "--storage",
        "--executor",
        "--model",
        "--data",
        "--kind",
    ),
    *("--fix", "--all", "--consumer", "--force", "--explain", "--retriever", "--template", "--", "-", "--storage="),
    *("absent", "../absent", "/", ".", "", "study.yaml", "small", "peft", "knee", "min-score=x", "max-parameters=-1"),
    *("training.steps=0", "training.steps", "=", "a.b.c=1", "search.trials=[", "study=../x", "executor.kind=ray"),
    *(
        "sqlite:////absent/x.db",
        "sqlite://",
        "postgresql+psycopg://u:hunter2@127.0.0.1:1/x",
        "://",
        "9" * 30,
        "-1",
        "\0",
    ),
]
LINE = st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=6)), max_size=7)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """An empty folder but for a study file; what would take long is not done, though it is asked for."""

    def accepted(*_arguments, **_options):
        raise InputError("accepted")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rank_search.app.run.run_study", accepted)
    monkeypatch.setattr("rank_search.app.plan.estimate_study", accepted)
    monkeypatch.setattr("rank_search.app.init.draft", accepted)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**CONFIGS["demo"], "study": "small"}))
    return tmp_path


def test_command_lines(place) -> None:
    before = sorted(place.rglob("*"))

    @settings(max_examples=LINES, **FUZZ)
    @given(LINE)
    def tried(arguments) -> None:
        code, _, said = in_process(*arguments)
        assert "Traceback" not in said
        assert "hunter2" not in said or said.startswith("Usage: ")  # which repeats a word too many
        assert sorted(place.rglob("*")) == before
        if code == 0:  # only these do anything without a study
            assert arguments == [] or "schema" in arguments or "--help" in arguments
        else:
            assert code in {1, 2}

    tried()
