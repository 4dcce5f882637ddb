"""What the tests of several commands share."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

from tests.bench import EMBEDDED

SETTINGS = {"study": "mine", "model": {"source": EMBEDDED}, "task": {"kind": "retrieval"}}
VERBS = ("init", "schema", "run", "plan", "status", "doctor", "report", "choose", "export", "verify")


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


def loaded_by(*lines: tuple[str, ...]) -> set[str]:
    """Modules that command lines load, run one after another in one process."""
    script = (
        "import sys\n"
        "from rank_search.cli.main import main\n"
        f"for line in {list(lines)!r}:\n"
        "    sys.argv = ['rank_search', *line]\n"
        "    try: main()\n"
        "    except SystemExit as end: assert not end.code, line\n"
        "print(' '.join(sys.modules), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(result.stderr.split())
