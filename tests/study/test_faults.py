"""Whose fault an error is: the trial's, everyone's, or that of a storage which may come back."""

import errno
import sqlite3

import pytest
import sqlalchemy.exc
import torch
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError, PendingRollbackError

from rank_search.core.errors import InputError, OutOfService, RankSearchError, TrainingFailed
from rank_search.study import faults

URL = "postgresql://me:s3cret@host/db"


class SafetensorError(Exception):
    """By its name alone: safetensors is not imported to look at an error."""


class DiskFull(Exception):
    """As psycopg raises it."""

    sqlstate = "53100"


def refused_by(driver: Exception, kind=OperationalError, **options) -> sqlalchemy.exc.DBAPIError:
    return kind("SELECT 1", {}, driver, **options)


def through_optuna(error: Exception) -> StorageInternalError:
    raised = StorageInternalError("an exception is raised during the commit")
    raised.__cause__ = error
    return raised


LOCKED = refused_by(sqlite3.OperationalError("database is locked"))
CLOSED = refused_by(ConnectionError(f"server closed the connection to {URL}"))


@pytest.fixture
def no_waiting(monkeypatch) -> None:
    monkeypatch.setattr(faults, "_FIRST_WAIT", 0.0)
    monkeypatch.setattr(faults, "_LONGEST_WAIT", 0.0)


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (ValueError("bad\n  value"), "error", "ValueError: bad value"),
        (RankSearchError("the source has no adapter"), "error", "the source has no adapter"),
        (InputError("is wrong", field="task.data"), "error", "task.data: is wrong"),
        (MemoryError(), "out of memory", "MemoryError:"),
        (torch.OutOfMemoryError("CUDA"), "out of memory", "OutOfMemoryError: CUDA"),
        (SafetensorError("header"), "damaged file", "SafetensorError: header"),
        (
            FileNotFoundError(errno.ENOENT, "No such file", "x"),
            "error",
            "FileNotFoundError: [Errno 2] No such file: 'x'",
        ),
    ],
)
def test_fault_of_a_trial_has_a_kind_and_a_reason_of_one_line(error, kind, reason) -> None:
    failure = faults.failure(error)
    assert (failure.kind, str(failure)) == (kind, reason)


def test_failure_that_a_training_states_itself_is_kept() -> None:
    stated = TrainingFailed("the loss is nan at step 3", "not finite")
    assert faults.failure(stated) is stated


@pytest.mark.parametrize(
    ("error", "out_of_memory"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: Out of memory"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_memory_is_recognised_by_what_pytorch_says(error, out_of_memory) -> None:
    assert faults.is_out_of_memory(error) is out_of_memory


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), "/data/x: the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk quota is used up"),
        (OSError(errno.EROFS, "Read-only file system", "/data"), "/data: is read-only"),
        (OSError(errno.ESTALE, "Stale file handle", "/data"), "/data: Stale file handle"),
        (PermissionError(errno.EACCES, "Permission denied", "/data"), "/data: Permission denied"),
        (LOCKED, "the storage failed (database is locked)"),
        (through_optuna(LOCKED), "the storage failed (database is locked)"),
        (CLOSED, "the storage failed (ConnectionError)"),
        (PendingRollbackError(URL), "the storage failed (PendingRollbackError)"),
        (StorageInternalError(URL), "the storage failed (StorageInternalError)"),
    ],
)
def test_what_no_trial_can_help_stops_the_run_without_the_address_of_the_storage(error, what) -> None:
    with pytest.raises(OutOfService) as stopped:
        faults.failure(error)
    assert str(stopped.value).startswith(f"{what}; nothing ")
    assert str(stopped.value).endswith("run the same command to go on")
    assert stopped.value.__cause__ is None
    assert stopped.value.__suppress_context__, "a traceback would show the address"


def test_run_that_is_stopped_stays_stopped_for_the_same_reason() -> None:
    stopped = OutOfService("the base model is gone")
    assert faults.out_of_service(stopped) is stopped


@pytest.mark.parametrize("error", [ValueError("no"), FileNotFoundError(errno.ENOENT, "No such file"), OSError("odd")])
def test_what_may_be_the_fault_of_a_trial_stops_no_run(error) -> None:
    assert faults.out_of_service(error) is None


@pytest.mark.parametrize(
    ("error", "unreachable"),
    [
        (LOCKED, True),
        (through_optuna(LOCKED), True),
        (refused_by(sqlite3.OperationalError("disk I/O error")), False),
        (refused_by(sqlite3.DatabaseError("database disk image is malformed"), sqlalchemy.exc.DatabaseError), False),
        (CLOSED, True),
        (through_optuna(CLOSED), True),
        (refused_by(ConnectionError(), InterfaceError), True),
        (refused_by(ConnectionError(), IntegrityError, connection_invalidated=True), True),
        (refused_by(ValueError("duplicate key"), IntegrityError), False),
        (refused_by(DiskFull()), False),
        (sqlalchemy.exc.TimeoutError("QueuePool limit"), True),
        (PendingRollbackError("can't reconnect"), True),
        (StorageInternalError("of unknown cause"), False),
        (ConnectionError("of something else"), False),
    ],
)
def test_storage_is_asked_again_only_where_it_may_come_back(error, unreachable) -> None:
    assert faults.is_unreachable(error) is unreachable


@pytest.mark.usefixtures("no_waiting")
def test_storage_that_comes_back_is_asked_until_then() -> None:
    answers, messages = [LOCKED, through_optuna(CLOSED), "row"], []

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert faults.patiently(ask, messages.append) == "row"
    assert messages == ["the storage is out of reach; trying again for 5 min"] * 2


@pytest.mark.parametrize(
    ("error", "raised", "message", "patience"),
    [
        (CLOSED, OutOfService, r"^the storage has been out of reach for 0 min; .* run the same command to go on$", 0),
        (refused_by(DiskFull()), OutOfService, r"^the storage failed \(DiskFull\)", 300),
        (refused_by(sqlite3.OperationalError("disk I/O error")), OutOfService, r"\(disk I/O error\)", 300),
        (ValueError("a mistake of the caller's"), ValueError, "a mistake of the caller's", 300),
    ],
)
def test_what_does_not_pass_is_raised_at_the_first_try(no_waiting, monkeypatch, error, raised, message, patience):
    monkeypatch.setattr(faults, "PATIENCE", patience)
    tries = []

    def ask() -> None:
        tries.append(1)
        raise error

    with pytest.raises(raised, match=message) as caught:
        faults.patiently(ask)
    assert len(tries) == 1
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
