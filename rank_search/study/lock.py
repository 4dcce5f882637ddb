"""The exclusive lock of a study: of several drivers, only one at a time takes trials or records them.

What a driver does while it holds the lock it decides by what is in the storage then, so that no map is started twice
and no trial is recorded by two drivers.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST_HOLD = 300  # seconds, after which PostgreSQL takes the lock from a driver whose machine has gone silent
# pg_advisory_lock in its transaction form: it ends with the connection, however the process ends.
_LOCK = text("SELECT pg_advisory_xact_lock(:key)")


class ExclusiveLock:
    """The lock of one study among its drivers: PostgreSQL's advisory lock on a key made of the study's name.

    SQLite is for one driver, whom a lock on the study's folder keeps alone (`StudyFolder.locked`); there this lock has
    nothing to do.

    Args:
        url: of the storage.
        study: its name there.
    """

    def __init__(self, url: str, study: str) -> None:
        self._key = advisory_key(study)
        shared = make_url(url).get_backend_name() != "sqlite"
        self._engine = create_engine(url, poolclass=NullPool) if shared else None

    @contextmanager
    def acquired(self) -> Iterator[None]:
        """Waits for the lock, and holds it within the context.

        Raises:
            SQLAlchemyError: the storage is out of reach, or it was, and another driver may have held the lock then.
        """
        if self._engine is None:
            yield
            return
        connection = self._engine.connect()
        try:
            connection.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{_LONGEST_HOLD}s'"))
            connection.execute(_LOCK, {"key": self._key})
            yield
            connection.execute(text("SELECT 1"))  # fails where the lock was lost, so that the caller looks again
        finally:
            with suppress(SQLAlchemyError), connection:  # the database may have gone, and its locks with it
                connection.rollback()


def advisory_key(study: str) -> int:
    """The key of a study's advisory lock: 64 bits, signed, of the SHA-256 of its name."""
    digest = hashlib.sha256(f"rank_search:{study}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
