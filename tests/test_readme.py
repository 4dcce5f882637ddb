"""Every command of README.md and docs/, run as it is written there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, Command, in_process, small_run

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [block for page in PAGES for block in re.findall(r"```(\w+)\n(.*?)```", page.read_text(), re.DOTALL)]
COMMANDS = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines()]
SCRIPTS = [block for language, block in BLOCKS if language == "python"]

RUN_ELSEWHERE = {
    "make test": "it is what runs this test",
    "make check": ".ci/run runs it before the tests",
    "python -m rank_search init --model sentence-transformers/all-MiniLM-L6-v2 --data questions.jsonl": (
        "tests/test_tasks_end_to_end.py drafts studies of models that need no hub"
    ),
    "python -m rank_search init --model HuggingFaceTB/SmolLM2-135M-Instruct --data answers.jsonl --kind generation": (
        "tests/test_tasks_end_to_end.py drafts such studies"
    ),
    "python -m rank_search init --model HuggingFaceTB/SmolLM2-135M-Instruct "
    "--retriever sentence-transformers/all-MiniLM-L6-v2 --data answers.jsonl": (
        "tests/test_tasks_end_to_end.py drafts such studies"
    ),
    "python -m rank_search plan questions.yaml": "tests/test_tasks_end_to_end.py plans what it drafted",
    "python -m rank_search run questions.yaml": "tests/test_tasks_end_to_end.py runs what it drafted",
    "python -m rank_search run configs/demo.yaml --set search.trials=30": "tests/test_end_to_end.py goes on with more",
    "python -m rank_search report demo --watch": "tests/report/test_watch.py: it waits for a minute",
    "pip install -c constraints.txt '.[postgres]'": "make test installs it",
    "pip install -c constraints.txt '.[ray]'": "make test installs it",
    "python -m rank_search run study.yaml": "tests/test_elsewhere.py runs one on Ray; it needs GPUs as it stands there",
    "pip install -c constraints.txt '.[tensorboard]'": "make test installs it",
    "tensorboard --logdir studies/demo/trackers/tensorboard": "tests/report/test_trackers.py reads what it would show",
    "make docs": "make check builds them",
    "python -m rank_search run study.yaml --storage postgresql+psycopg://USER:PASSWORD@HOST/DATABASE": (
        "tests/test_elsewhere.py runs two of them at once"
    ),
    "pip install -c constraints.txt '.[report]'": (
        "tests/test_wheel.py installs the same and more into an empty environment"
    ),
    "python benchmarks/search_cost.py --out search_cost": "tests/test_benchmarks.py runs it cut short",
    "python benchmarks/seed_noise.py > benchmarks/seed_noise.json": "tests/test_benchmarks.py runs it cut short",
    "optuna-dashboard sqlite:///studies/demo/study.db": "tests/test_end_to_end.py starts and asks it",
}
VERBS = [
    command for command in COMMANDS if command.startswith("python -m rank_search") and command not in RUN_ELSEWHERE
]


def test_every_command_is_run_somewhere() -> None:
    assert set(COMMANDS) == {*VERBS, *RUN_ELSEWHERE, "make demo"}
    assert "make check" in (ROOT / ".ci" / "run").read_text()
    for name in re.findall(r"tests/[\w/]+\.py", " ".join(RUN_ELSEWHERE.values())):
        assert (ROOT / name).is_file()


@pytest.mark.long
def test_verbs_in_the_order_of_the_page(demo: Command, monkeypatch) -> None:
    """A run is cut short by the settings of the small demo, whose study it then finds; the rest is as written.

    In this process, as to begin one takes longer than most of them do.
    """
    monkeypatch.chdir(demo.folder)
    for line in VERBS:
        arguments = shlex.split(line)[3:]
        if arguments[0] == "run":
            arguments = [*small_run(8), *arguments[1:]]
        status, _, said = in_process(*arguments)
        assert status == 0, f"{line}\n{said}"
    for script in SCRIPTS:  # they load what the commands have exported
        subprocess.run([sys.executable, "-c", script], cwd=demo.folder, check=True, capture_output=True)


def test_make_demo(demo: Command) -> None:
    """As it is written, but in this environment, and cut short like the small demo, whose study it finds."""
    installed = f"{sys.prefix}/installed"
    line = ["make", "-f", str(ROOT / "Makefile"), "demo", f"VENV={sys.prefix}", "-o", installed]
    arguments = f"ARGS={shlex.join(small_run(8)[1:])}"
    result = subprocess.run([*line, arguments], cwd=demo.folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "all 8 trials are finished; nothing to train" in result.stderr


def test_excerpts_of_the_page_are_of_a_study_file() -> None:
    import yaml

    from rank_search.config import StudyConfig

    excerpts = [yaml.safe_load(block) for language, block in BLOCKS if language == "yaml"]
    whole = yaml.safe_load((ROOT / "configs" / "demo.yaml").read_text())
    read = [StudyConfig.model_validate({**whole, **excerpt}) for excerpt in excerpts]
    assert {config.search.trials for config in read} == {24}
    assert {config.executor.kind for config in read} == {"local", "ray"}


def test_refusal_of_the_page_is_what_is_printed(command: Command) -> None:
    (quoted,) = (block.strip() for language, block in BLOCKS if language == "text")
    assert command("run", "--set", "training.stepz=5").stderr.strip() == quoted


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        targets = re.findall(r"\]\((?!http)([^)]+)\)", page.read_text())
        for target in targets:
            file, _, anchor = target.partition("#")
            generated = target in {"reference/cli.md", "reference/study-file.md"}  # by docs/hooks.py
            assert generated or Path(page.parent, file).exists(), (page, target)
            headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert not anchor or file or anchor in anchors, (page, target)
