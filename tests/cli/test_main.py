"""The entry point: help, and the exit status of whatever goes wrong."""

import errno
import re

import pytest

from rank_search.cli.main import app
from rank_search.core.errors import InputError, SearchStopped
from tests.cli.conftest import VERBS, loaded_by
from tests.conftest import in_process


def test_verbs_are_those_of_the_help() -> None:
    status, out, said = in_process("--help")
    assert (status, said) == (0, "")
    listed = out.partition("Commands:\n")[2].splitlines()
    assert tuple(line.split()[0] for line in listed) == VERBS
    assert not any(line.endswith("...") for line in listed)  # each fits on its line
    assert len(app.registered_commands) == len(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb(verb) -> None:
    status, out, said = in_process(verb, "--help")
    assert (status, said) == (0, "")
    assert re.match(rf"Usage: .*rank_search {verb} \[OPTIONS\]", out)
    assert "Options:" in out


SLOW = {"torch", "transformers", "peft", "optuna", "pandas", "matplotlib", "plotly"}
SLOW |= {"numpy", "yaml", "sqlalchemy", "rich", "rank_search.config"}


def test_help_loads_nothing_that_is_slow() -> None:
    assert not loaded_by(("--help",)) & {*SLOW, "pydantic"}
    modules = loaded_by(*((verb, "--help") for verb in VERBS))  # where typer itself imports pydantic
    assert not modules & SLOW
    assert not any(name.startswith("rank_search.app.") for name in modules)


@pytest.mark.parametrize("verb", VERBS)
def test_unknown_option_is_refused(verb) -> None:
    status, out, said = in_process(verb, "--frobnicate")
    assert (status, out) == (2, "")
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("Error: ")


AGAIN = "nothing that was recorded is lost: fix that, then run the same command to go on"


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("is wrong", field="--rule"), 2, "--rule: is wrong"),
        (SearchStopped("too many trials failed"), 1, "too many trials failed"),
        (
            OSError(errno.ENOSPC, "No space left on device", "reports/small"),
            1,
            f"reports/small: the disk is full; {AGAIN}",
        ),
        (SearchStopped("it failed: \x1b[2J"), 1, r"it failed: \x1b[2J"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "a\nb"), 1, "[Errno 21] Is a directory: 'a\\nb'"),
    ],
)
def test_errors_are_one_line_and_an_exit_status(monkeypatch, error, status, line) -> None:
    def fail(*_arguments):
        raise error

    monkeypatch.setattr("rank_search.cli.status.open_study", fail)
    assert in_process("status", "absent") == (status, "", f"rank_search: {line}\n")


def test_storage_that_is_gone_is_one_line(monkeypatch) -> None:
    from optuna.exceptions import StorageInternalError

    def fail(*_arguments):
        raise StorageInternalError("postgresql://me:hunter2@server/db")

    monkeypatch.setattr("rank_search.cli.status.open_study", fail)
    status, out, said = in_process("status", "absent")
    assert (status, out) == (1, "")
    assert said.startswith("rank_search: the storage failed (StorageInternalError)")
    assert len(said.splitlines()) == 1
    assert "hunter2" not in said


def test_bug_keeps_its_traceback(monkeypatch) -> None:
    def fail(*_arguments):
        raise ZeroDivisionError

    monkeypatch.setattr("rank_search.cli.status.open_study", fail)
    with pytest.raises(ZeroDivisionError):
        in_process("status", "absent")
