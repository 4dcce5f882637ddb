import errno
import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rank_search.core.errors import InputError
from rank_search.core.files import atomic_file, atomic_folder, local_path, sha256, write_text


def test_paths_that_users_name(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("~/data", "some.field") == tmp_path / "data"
    assert local_path("someone/some-data", "some.field") == Path("someone/some-data")
    for wrong in ("a" * 300, "~no-such-user/data"):
        with pytest.raises(InputError, match=r"^some\.field: '.*' can't be a path \(.*\); check it$"):
            local_path(wrong, "some.field")


def test_sha256_is_that_of_the_bytes(tmp_path) -> None:
    (tmp_path / "a").write_bytes(b"\0\r\n" * 100_000)
    assert sha256(tmp_path / "a") == hashlib.sha256(b"\0\r\n" * 100_000).hexdigest()


def test_text_is_written_as_utf_8_and_leaves_no_other_file(tmp_path) -> None:
    for text in ("old", "α/√r\n"):
        write_text(tmp_path / "new" / "file.txt", text)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.txt"]
    assert (tmp_path / "new" / "file.txt").read_bytes() == "α/√r\n".encode()


def write_half_and_fail(path: Path) -> None:
    path.write_text("half of the n")
    raise ZeroDivisionError


def test_file_keeps_its_content_when_writing_fails(tmp_path) -> None:
    write_text(tmp_path / "file", "old")
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "file") as partial:
        write_half_and_fail(partial)
    assert (tmp_path / "file").read_text() == "old"
    write_text(tmp_path / "file", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_file_is_renamed_only_after_it_is_synced(tmp_path, monkeypatch) -> None:
    synced = []

    def fsync(descriptor: int) -> None:
        synced.append((str(Path(f"/proc/self/fd/{descriptor}").readlink()), (tmp_path / "file").exists()))

    monkeypatch.setattr("os.fsync", fsync)
    write_text(tmp_path / "file", "new")
    (partial, existed), after = synced
    assert (Path(partial).parent, Path(partial).suffix, existed) == (tmp_path, ".partial", False)
    assert after == (str(tmp_path), True)


def test_folder_appears_whole_and_replaces_only_when_asked(tmp_path) -> None:
    with atomic_folder(tmp_path / "out") as partial:
        (partial / "inner").mkdir()
        (partial / "inner" / "a").write_text("a")
        assert not (tmp_path / "out").exists()
    with pytest.raises(OSError, match="not empty"), atomic_folder(tmp_path / "out"):
        pass
    assert (tmp_path / "out" / "inner" / "a").read_text() == "a"
    with atomic_folder(tmp_path / "out", replace=True) as partial:
        (partial / "b").write_text("b")
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["out", "out/b"]


def test_folder_that_fails_to_fill_leaves_the_old_one(tmp_path) -> None:
    with atomic_folder(tmp_path / "out") as partial:
        (partial / "a").write_text("a")
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "out", replace=True) as partial:
        write_half_and_fail(partial / "b")
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["out", "out/a"]


def test_processes_that_write_the_same_file_or_folder_do_not_meet(tmp_path) -> None:
    """The one that ends last wins, whole."""
    with atomic_file(tmp_path / "file") as first, atomic_file(tmp_path / "file") as second:
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "file").read_text() == "first"
    with (
        atomic_folder(tmp_path / "out", replace=True) as first,
        atomic_folder(tmp_path / "out", replace=True) as second,
    ):
        (first / "first").touch()
        (second / "second").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["first"]
    with (
        pytest.raises(OSError, match="not empty"),
        atomic_folder(tmp_path / "new"),
        atomic_folder(tmp_path / "new") as b,
    ):
        (b / "b").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "new", "out"]


def test_what_a_living_process_writes_is_left_to_it(tmp_path) -> None:
    with atomic_file(tmp_path / "file") as partial:
        partial.write_text("new")
        script = "import sys, pathlib, rank_search.core.files as f; f.write_text(pathlib.Path(sys.argv[1]), 'other')"
        subprocess.run([sys.executable, "-c", script, str(tmp_path / "file")], check=True)
        assert (tmp_path / "file").read_text() == "other"
    assert (tmp_path / "file").read_text() == "new"


def test_folder_that_can_not_take_the_place_of_the_old_one_gives_it_back(tmp_path, monkeypatch) -> None:
    with atomic_folder(tmp_path / "out") as partial:
        (partial / "old").touch()
    rename = Path.rename

    def full(self, target):
        if self.name == "new":
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space left"), atomic_folder(tmp_path / "out", replace=True):
        pass
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["out", "out/old"]


def test_empty_folder_may_be_filled(tmp_path) -> None:
    (tmp_path / "out").mkdir()
    with atomic_folder(tmp_path / "out") as partial:
        (partial / "a").write_text("a")
    assert (tmp_path / "out" / "a").exists()


def test_killed_process_leaves_the_old_folder_and_the_next_one_removes_the_leftovers(tmp_path) -> None:
    with atomic_folder(tmp_path / "out") as partial:
        (partial / "old").write_text("old")
    script = (
        "import os, sys, pathlib\n"
        "from rank_search.core.files import atomic_folder\n"
        "with atomic_folder(pathlib.Path(sys.argv[1]), replace=True) as partial:\n"
        "    (partial / 'half').write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "out")], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["old"]
    assert len(list(tmp_path.iterdir())) == 2
    with atomic_folder(tmp_path / "out", replace=True) as partial:
        (partial / "new").write_text("new")
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["out", "out/new"]
