"""The storage of a study: found, made, or refused without a trace of its password."""

import contextlib
import sqlite3

import pytest

from rank_search.core.errors import InputError
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
        with pytest.raises(InputError, match="no study 'small'"):
            Study.open(str(bench.folder.path))
        assert file.read_bytes() == content
    file.write_bytes(b"no database at all, but long enough to have a header" * 9)
    with pytest.raises(InputError, match=r"study\.db: is damaged, or no SQLite file"):
        Study.open(str(bench.folder.path))


def sqlite_file(path) -> bytes:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("create table mine (x)")
        connection.commit()
    return path.read_bytes()


@pytest.mark.parametrize(
    "url", ["postgresql+absent://user:secret@127.0.0.1/db", "no url: secret", "sqlite:////absent/secret/x.db"]
)
def test_storage_that_can_not_be_opened_never_shows_its_password(bench, url) -> None:
    with pytest.raises(InputError, match=r"--storage: can't be opened") as raised:
        create_study(bench.folder, url)
    assert "secret" not in str(raised.value)
