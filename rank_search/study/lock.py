"""Several drivers on one study: only one at a time takes trials or tells them.

What a driver does then it decides by what is in the storage, so that no map is begun twice, and no trial told by two.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from collections.abc import Iterator

# A row that is there as long as the study is, and that Optuna never locks or changes.
_ROW = text(
    "SELECT own.study_direction_id FROM study_directions AS own JOIN studies ON studies.study_id = own.study_id "
    "WHERE studies.study_name = :study AND own.objective = 0 FOR UPDATE OF own"
)
_LONGEST = 300  # seconds, after which PostgreSQL takes the lock from a driver whose machine has gone silent


class Drivers:
    """All drivers of one study.

    Args:
        url: of the storage.
        study: its name there.
    """

    def __init__(self, url: str, study: str) -> None:
        self._study = study
        self._dialect = make_url(url).get_backend_name()
        # SQLite is for one driver, whom a lock on the study's folder keeps alone.
        self._engine = None if self._dialect == "sqlite" else create_engine(url, poolclass=NullPool)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A context in which no other driver is, of this study, in theirs.

        It ends with the connection, however the process ends.

        Raises:
            SQLAlchemyError: the storage is out of reach, or was, and another driver may have been in.
        """
        if self._engine is None:
            yield
            return
        connection = self._engine.connect()
        try:
            if self._dialect == "postgresql":
                connection.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{_LONGEST}s'"))
            connection.execute(_ROW, {"study": self._study}).all()
            yield
            connection.execute(text("SELECT 1"))  # fails where the lock was lost; what was done is then looked at again
        finally:
            with suppress(SQLAlchemyError), connection:  # the database may have gone, and its locks with it
                connection.rollback()
