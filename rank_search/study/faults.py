"""What goes wrong, and whose fault it is: the one policy for all that may break while a study runs.

- A trial's own fault fails the trial, with its kind and its reason, and the study goes on: an exception, a score or
  loss that is not finite, memory that a single map does not fit in (packs are halved first), its time limit, a
  damaged adapter that it starts from, a process that died again and again.
- What every trial needs and none can help stops the run, and no trial is blamed: a full disk, a storage that stays out
  of reach, a base model that is gone. The same command goes on.
- A process that dies, of the host's memory or by a kill, can't say so. Its trials are tried again by whoever finds
  their lease dead: see `rank_search.study.leases`.
"""

from __future__ import annotations

import errno
import re
import sqlite3
from typing import TYPE_CHECKING, Any, TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy import exc as sql
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

from rank_search.core.errors import OutOfService, RankSearchError, TrainingFailed
from rank_search.core.job import no_callback

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

PATIENCE = 300.0  # seconds for which a storage may be out of reach
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 15.0  # seconds between two tries, doubled each time
_DISK_FULL = "53100"  # of PostgreSQL's SQLSTATE
# Of a file system that takes no more, or is gone; of a process or user that may do no more.
_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up", errno.EROFS: "is read-only"}
_GONE = {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM}
_DAMAGED = re.compile(r"malformed|not a database|decode to UTF-8")  # SQLite's words, and those of its module
_NO_MEMORY = re.compile(r"can't allocate memory|out of memory", re.IGNORECASE)


def failure(error: Exception) -> TrainingFailed:
    """The failure of a trial that an exception comes to.

    Raises:
        OutOfService: it is no fault of the trial's.
    """
    if isinstance(error, TrainingFailed):
        return error
    if (gone := out_of_service(error)) is not None:
        raise gone from None
    reason = " ".join((str(error) if isinstance(error, RankSearchError) else f"{_name(error)}: {error}").split())
    if is_out_of_memory(error):
        return TrainingFailed(reason, "out of memory")
    return TrainingFailed(reason, "damaged file" if _name(error) == "SafetensorError" else "error")


def out_of_service(error: Exception) -> OutOfService | None:
    """What to say of an error that is no trial's fault; None where it may be one."""
    if isinstance(error, OutOfService):
        return error
    if isinstance(error, OSError) and error.errno in {*_FULL, *_GONE}:
        what = _FULL.get(error.errno, error.strerror)
        what = f"{error.filename}: {what}" if error.filename else what
    elif isinstance(error, StorageInternalError | SQLAlchemyError):
        # What a server's driver says may hold the URL, and with it the password; SQLite knows of none.
        cause = (error.__cause__ or error) if isinstance(error, StorageInternalError) else error
        driver_error = cause.orig if isinstance(cause, DBAPIError) else None
        reason = driver_error if isinstance(driver_error, sqlite3.Error) else _name(driver_error or cause)
        if isinstance(driver_error, sqlite3.DatabaseError) and _DAMAGED.search(str(driver_error)):
            return OutOfService(f"the storage is damaged ({reason}); restore it from a copy")
        what = f"the storage failed ({reason})"
    else:
        return None
    return OutOfService(f"{what}; nothing that was recorded is lost: fix that, then run the same command to go on")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether PyTorch or Python had no memory left, on a device or on the host."""
    if isinstance(error, MemoryError) or _name(error) == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error)))


def is_unreachable(error: BaseException) -> bool:
    """Whether a storage could not be asked, and may be a while later."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(cause, DBAPIError) and isinstance(cause.orig, sqlite3.Error):
        return "locked" in str(cause.orig)
    if isinstance(cause, DBAPIError) and getattr(cause.orig, "sqlstate", None) == _DISK_FULL:
        return False
    # After an error Optuna asks again in the same transaction, which is then to be rolled back.
    return isinstance(cause, OperationalError | InterfaceError | sql.TimeoutError | sql.PendingRollbackError) or bool(
        isinstance(cause, DBAPIError) and cause.connection_invalidated
    )


def patiently(unit: Callable[[], T], on_wait: Callable[[str], Any] = no_callback) -> T:
    """Does something with a storage, again and again while that is out of reach.

    Args:
        unit: what to do; it must be safe to do again when it was done in part, or wholly without our hearing of it.
        on_wait: called with the reason when it has to wait.

    Raises:
        OutOfService: the storage stays out of reach, or its disk is full.
    """
    waiting = f"the storage is out of reach; trying again for {PATIENCE / 60:.0f} min"
    retrying = Retrying(
        retry=retry_if_exception(is_unreachable),
        wait=wait_exponential_jitter(multiplier=_FIRST_WAIT, max=_LONGEST_WAIT),
        stop=stop_after_delay(PATIENCE),
        before_sleep=lambda _state: on_wait(waiting),
        reraise=True,
    )
    try:
        return retrying(unit)
    except Exception as error:
        if is_unreachable(error):
            raise OutOfService(
                f"the storage has been out of reach for {PATIENCE / 60:.0f} min; nothing that was recorded is lost: "
                "when it is back, run the same command to go on"
            ) from None
        if (gone := out_of_service(error)) is not None:
            raise gone from None
        raise


def _name(error: BaseException) -> str:
    return type(error).__name__
