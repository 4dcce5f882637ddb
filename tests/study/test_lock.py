"""The exclusive lock of a study: PostgreSQL's advisory lock among its drivers; nothing where SQLite has one driver."""

import threading

import pytest
import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from rank_search.study import lock
from rank_search.study.lock import ExclusiveLock, advisory_key

LOCKS = """SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = database
    WHERE locktype = 'advisory' AND datname = current_database()"""
TRY = "SELECT pg_try_advisory_xact_lock(:key)"
WAIT = "SELECT pg_advisory_xact_lock(:key) IS NULL"


def asked(database: str, query: str, **values) -> list:
    """What another connection is answered."""
    limited = {"options": "-c lock_timeout=30s"}  # a lock that is never released fails the test
    engine = sqlalchemy.create_engine(database, poolclass=NullPool, connect_args=limited)
    with engine.connect() as connection:
        return list(connection.execute(sqlalchemy.text(query), values).scalars())


def is_free(database: str, study: str) -> bool:
    return asked(database, TRY, key=advisory_key(study)) == [True]


def break_connection(database: str) -> None:
    """Ends the connection that holds the lock, as a network that fails does."""
    asked(database, f"SELECT pg_terminate_backend(pid, 5000) FROM ({LOCKS} AND granted) AS holders")
    assert is_free(database, "small")


@given(st.text())
def test_key_fits_what_postgresql_takes(study) -> None:
    assert -(2**63) <= advisory_key(study) < 2**63


def test_key_is_the_same_in_every_process_and_version() -> None:
    """Drivers of different releases must exclude each other: this number never changes."""
    assert advisory_key("demo") == 6_526_004_909_461_756_774
    assert advisory_key("demo") != advisory_key("demo2")


def test_sqlite_needs_no_lock_and_is_not_opened(tmp_path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    with ExclusiveLock(url, "small").acquired(), ExclusiveLock(url, "small").acquired():
        pass
    assert list(tmp_path.iterdir()) == []


def test_lock_is_held_within_the_context_alone(database) -> None:
    exclusive = ExclusiveLock(database, "small")
    assert is_free(database, "small"), "making it takes nothing"
    for _ in range(2):
        with exclusive.acquired():
            assert not is_free(database, "small")
            assert is_free(database, "another"), "each study has its own"
        assert is_free(database, "small")
    with pytest.raises(ZeroDivisionError), exclusive.acquired():
        raise ZeroDivisionError
    assert is_free(database, "small")


def test_second_driver_waits_for_the_first(database) -> None:
    order: list[str] = []

    def second() -> None:
        with ExclusiveLock(database, "small").acquired():
            order.append("second")

    with ExclusiveLock(database, "small").acquired():
        driver = threading.Thread(target=second)
        driver.start()
        while driver.is_alive() and not asked(database, f"{LOCKS} AND NOT granted"):
            pass  # until it waits for the lock
        order.append("first")
    driver.join()
    assert order == ["first", "second"]


def test_connection_that_breaks_releases_the_lock_and_its_driver_learns_of_it(database) -> None:
    """It must look again: another driver may have held the lock since."""
    with pytest.raises(OperationalError), ExclusiveLock(database, "small").acquired():
        break_connection(database)
    with ExclusiveLock(database, "small").acquired():
        assert not is_free(database, "small")


def test_error_of_the_driver_is_raised_even_where_the_connection_broke(database) -> None:
    def fail() -> None:
        break_connection(database)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), ExclusiveLock(database, "small").acquired():
        fail()


def test_driver_that_falls_silent_loses_the_lock_to_one_that_waits(database, monkeypatch) -> None:
    monkeypatch.setattr(lock, "_LONGEST_HOLD", 1)
    with pytest.raises(DBAPIError, match="idle-in-transaction"), ExclusiveLock(database, "small").acquired():
        assert asked(database, WAIT, key=advisory_key("small")) == [False]
