"""The storage of a study: found, made, or refused without a trace of its password."""

import contextlib
import sqlite3
from types import SimpleNamespace

import pytest

from rank_search.core.errors import InputError, OutOfService
from rank_search.study.folder import StudyFolder
from rank_search.study.handle import Study
from rank_search.study.storage import create_study, find_study, is_shared


@pytest.mark.parametrize(
    ("storage", "shared"), [(None, False), ("sqlite:///x.db", False), ("postgresql+psycopg://x", True)]
)
def test_storage_is_shared_unless_it_is_sqlite(storage, shared) -> None:
    assert is_shared(storage) is shared


def test_looking_for_a_study_creates_nothing(tmp_path) -> None:
    folder = StudyFolder(tmp_path / "studies" / "absent")
    assert find_study(folder, None) is None
    assert find_study(folder, f"sqlite:///{tmp_path}/absent.db") is None
    assert list(tmp_path.iterdir()) == []


def test_foreign_and_damaged_databases_are_left_alone(bench) -> None:
    file = bench.folder.path / "study.db"
    for content in (b"", sqlite_file(bench.folder.path / "foreign.db")):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"study\.db: holds no study yet: restore it from a copy, or run"):
            Study.open(str(bench.folder.path))
        assert file.read_bytes() == content
    file.write_bytes(b"no database at all, but long enough to have a header" * 9)
    with pytest.raises(InputError, match=r"study\.db: it is damaged, or no SQLite file; restore it from a copy"):
        Study.open(str(bench.folder.path))


def sqlite_file(path) -> bytes:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("create table mine (x)")
        connection.commit()
    return path.read_bytes()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgresql+absent://user:secret@127.0.0.1/db", "can't be opened"),
        ("postgresql+absent://127.0.0.1/db?user=me&password=secret", "can't be opened"),
        ("no url: secret", "is no storage URL"),
    ],
)
def test_storage_that_can_not_be_opened_never_shows_its_password(bench, url, problem) -> None:
    with pytest.raises(InputError, match=f"^--storage: {problem}") as raised:
        create_study(bench.folder, url)
    assert "secret" not in str(raised.value)


def test_url_in_the_place_of_a_study_is_told_without_its_password() -> None:
    with pytest.raises(InputError, match=r"^STUDY: is a storage's URL; .* as --storage$"):
        Study.open("postgresql://me:secret@host/db")


def test_file_that_can_not_be_opened_is_named(bench, monkeypatch) -> None:
    """No --storage was given, so none is to be fixed."""
    (bench.folder.path / "study.db").mkdir()
    with pytest.raises(InputError, match=r"small/study\.db: can't be opened \(unable to open database file\); check"):
        create_study(bench.folder, None)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(OutOfService, match=r"small/study\.db: the disk is full; .* make room"):
        create_study(bench.folder, None)


def test_tables_of_another_version_of_optuna_are_told(bench) -> None:
    bench.open()
    with contextlib.closing(sqlite3.connect(bench.folder.path / "study.db")) as connection:
        connection.execute("update alembic_version set version_num = 'v99.0.0'")
        connection.commit()
    with pytest.raises(InputError, match=r"study\.db: its tables are of another version of Optuna than .*; install"):
        Study.open(str(bench.folder.path))


def test_pages_of_zeros_are_no_missing_rows(bench) -> None:
    """SQLite reads what is left of a table, and says nothing."""
    bench.search(4)
    content = bytearray(bench.folder.database.read_bytes())
    size = int.from_bytes(content[16:18], "big")
    for page in range(1, len(content) // size):
        damaged = content.copy()
        damaged[page * size : (page + 1) * size] = bytes(size)
        bench.folder.database.write_bytes(damaged)
        with contextlib.suppress(InputError):
            assert len(Study.open(str(bench.folder.path)).trials()) == 4
