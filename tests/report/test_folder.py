"""The folder of a report: only the report's own files are replaced."""

import errno
import json
import threading

import pytest

from rank_search.core.errors import InputError, RankSearchError
from rank_search.report import folder as module
from rank_search.report.folder import MANIFEST, ReportFolder
from tests.bench import metadata


@pytest.fixture
def out(tmp_path):
    return tmp_path / "reports" / "small"


def write(folder: ReportFolder, **files: str) -> None:
    """Writes a report of these files; ``__`` is a dot, ``___`` a slash."""
    with folder.replaced() as new:
        for name, text in files.items():
            path = new / name.replace("___", "/").replace("__", ".")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)


def files(out) -> dict[str, str]:
    found = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    return {name: path.read_text() for name, path in found.items() if name != MANIFEST}


def test_notes_in_the_folder_outlive_every_report(out) -> None:
    folder = ReportFolder(out, "one")
    write(folder, index__html="old", paper___front__tex="old", losses__png="old")
    (out / "notes.txt").write_text("mine")
    (out / "paper" / "mine.tex").write_text("mine")
    write(folder, index__html="new")
    assert files(out) == {"index.html": "new", "notes.txt": "mine", "paper/mine.tex": "mine"}
    assert json.loads((out / MANIFEST).read_text()) == {"owner": "one", "files": ["index.html", MANIFEST]}
    assert {path.name for path in out.parent.iterdir()} <= {"small", ".small.lock"}


def test_file_of_the_users_own_is_not_overwritten(out) -> None:
    out.mkdir(parents=True)
    (out / "losses.png").write_text("mine")
    with pytest.raises(InputError, match=r"losses\.png: is no file of this report, .*; move it away$"):
        write(ReportFolder(out, "one"), index__html="new", losses__png="new")
    assert files(out) == {"losses.png": "mine"}


def test_links_are_refused_and_what_they_lead_to_is_left_alone(out, tmp_path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "index.html").write_text("mine")
    out.parent.mkdir()
    out.symlink_to(elsewhere)
    folder = ReportFolder(out, "one")
    for act in (folder.check, lambda: write(folder, index__html="new"), lambda: folder.write_page("new")):
        with pytest.raises(InputError, match=r"is a link, .*; remove the link"):
            act()
    out.unlink()
    write(folder, index__html="old")
    (out / "paper").symlink_to(elsewhere)
    with pytest.raises(InputError, match="paper: is a link"):
        write(folder, index__html="new", paper___front__tex="new")
    (out / MANIFEST).write_text(json.dumps({"owner": "one", "files": ["index.html", "paper/index.html"]}))
    write(folder, index__html="new")
    assert (elsewhere / "index.html").read_text() == "mine"


def test_report_of_another_study_is_refused(out) -> None:
    write(ReportFolder(out, "one"), index__html="old")
    other = ReportFolder(out, "two")
    for act in (other.check, lambda: write(other, index__html="new"), lambda: other.write_page("new")):
        with pytest.raises(InputError, match="holds the report of another study; move it away"):
            act()
    assert files(out) == {"index.html": "old"}


@pytest.mark.parametrize("names", [["../../mine"], ["/etc/mine"], 3, None])
def test_manifest_that_names_files_elsewhere_is_refused(out, names) -> None:
    write(ReportFolder(out, "one"), index__html="old")
    (out / MANIFEST).write_text(json.dumps({"owner": "one", "files": names}))
    with pytest.raises(InputError, match=r"manifest\.json: is damaged, or no report's"):
        write(ReportFolder(out, "one"), index__html="new")
    assert files(out) == {"index.html": "old"}


def test_report_from_before_there_were_manifests_is_replaced_if_it_is_the_studys(out) -> None:
    folder = ReportFolder.of_study(out, "small", metadata())
    out.mkdir(parents=True)
    summary = {"study": "small", "data_fingerprint": "data", "model_fingerprint": "model"}
    for name, text in {"index.html": "old", "summary.json": json.dumps(summary), "nested.png": "old"}.items():
        (out / name).write_text(text)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"index\.html: is no file of this report"):
        ReportFolder.of_study(out, "other", metadata()).check()
    folder.check()
    write(folder, index__html="new")
    assert files(out) == {"index.html": "new", "notes.txt": "mine"}


def test_page_alone_is_written_beside_the_other_files(out) -> None:
    folder = ReportFolder(out, "one")
    folder.write_page("first")
    write(folder, index__html="old", trials__csv="old")
    folder.write_page("new")
    assert files(out) == {"index.html": "new", "trials.csv": "old"}


def test_reports_at_once_leave_one_that_is_whole(out) -> None:
    folder = ReportFolder(out, "one")

    def work(name: str) -> None:
        for _ in range(20):
            write(folder, index__html=name, trials__csv=name, **{f"{name}__png": name})

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = files(out)
    assert len(set(found.values())) == 1
    assert len(found) == 3


def _fill(new) -> None:
    (new / "index.html").write_text("half")
    raise OSError(errno.ENOSPC, "No space left on device")


def test_report_that_fails_leaves_the_older_one_and_a_full_disk_names_the_folder(out) -> None:
    folder = ReportFolder(out, "one")
    write(folder, index__html="old")
    with pytest.raises(OSError, match="No space left") as full, folder.replaced() as new:
        _fill(new)
    assert full.value.filename == str(out)
    assert files(out) == {"index.html": "old"}
    assert {path.name for path in out.parent.iterdir()} <= {"small", ".small.lock"}


def test_folder_that_another_process_keeps_locked_is_told(out, monkeypatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    folder = ReportFolder(out, "one")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with folder._locked():
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    try:
        with pytest.raises(RankSearchError, match="another process is writing a report there"):
            write(folder, index__html="new")
    finally:
        done.set()
        thread.join()
