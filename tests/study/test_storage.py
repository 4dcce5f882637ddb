import contextlib
import dataclasses
import sqlite3

import pytest

from rank_search.core.errors import InputError, RankSearchError
from rank_search.core.files import whole_folder, write_text
from rank_search.core.space import JointSetting
from rank_search.study.metadata import StudyRecord, refuse_change
from rank_search.study.storage import StudyFolder, create_study, find_study, load_study
from tests.bench import record


def test_study_by_name_and_by_path(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert StudyFolder.of("demo").path.as_posix() == "studies/demo"
    assert StudyFolder.of("elsewhere/demo").path.as_posix() == "elsewhere/demo"
    assert StudyFolder.of("elsewhere/demo").name == "demo"


def test_record_comes_back_as_it_was(bench) -> None:
    study = bench.study()
    assert StudyRecord.read(study) is None
    record().write(study)
    assert StudyRecord.read(bench.study()) == record()


def test_looking_for_a_study_creates_nothing(tmp_path) -> None:
    folder = StudyFolder(tmp_path / "studies" / "absent")
    assert find_study(folder, None) is None
    assert find_study(folder, f"sqlite:///{tmp_path}/absent.db") is None
    assert list(tmp_path.iterdir()) == []


def test_study_that_was_made_but_never_begun_counts_as_none(bench) -> None:
    bench.study()
    assert find_study(bench.folder, None) is None


def test_renamed_folder_still_holds_its_study(bench) -> None:
    bench.search(2)
    moved = StudyFolder(bench.folder.path.rename(bench.folder.path.with_name("renamed")))
    study, _ = load_study(moved, None)
    assert (study.study_name, len(study.trials)) == ("small", 2)


def test_unknown_study_is_told_with_a_near_one(bench) -> None:
    bench.study()
    with pytest.raises(InputError, match=r"STUDY: no study 'smal'; did you mean 'small'\?"):
        load_study(StudyFolder(bench.folder.path.with_name("smal")), None)


def test_files_of_another_study_of_the_same_name_are_not_taken_for_its_own(bench) -> None:
    bench.search(2)
    bench.folder.claim(record())
    bench.folder.claim(record())
    load_study(bench.folder, None)
    other = dataclasses.replace(record(), identity="other")
    for refusing in (bench.folder.claim, bench.folder.check_owner):
        with pytest.raises(InputError, match="holds the files of another study"):
            refusing(other)
    other.write(bench.study())
    with pytest.raises(InputError, match="holds the files of another study"):
        load_study(bench.folder, None)


def test_foreign_and_damaged_databases_are_left_alone(bench) -> None:
    file = bench.folder.path / "study.db"
    for content in (b"", sqlite_file(bench.folder.path / "foreign.db")):
        file.write_bytes(content)
        with pytest.raises(InputError, match="no study 'small'"):
            load_study(bench.folder, None)
        assert file.read_bytes() == content
    file.write_bytes(b"no database at all, but long enough to have a header" * 9)
    with pytest.raises(InputError, match=r"study\.db: is damaged, or no SQLite file"):
        load_study(bench.folder, None)


def sqlite_file(path) -> bytes:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("create table mine (x)")
        connection.commit()
    return path.read_bytes()


def test_damaged_results_are_named(bench) -> None:
    bench.search(2)
    (bench.folder.path / "results" / "0001.json").write_text('{"values": {')
    with pytest.raises(RankSearchError, match=r"0001\.json: is damaged"):
        bench.folder.read_result(1)


def test_folder_of_a_strange_name_among_the_adapters_stays(bench) -> None:
    (bench.folder.path / "adapters" / "0001.bak").mkdir(parents=True)
    bench.folder.adapter(1).mkdir()
    assert list(bench.folder.adapters()) == [1]
    bench.folder.keep_adapters(set())
    assert [path.name for path in (bench.folder.path / "adapters").iterdir()] == ["0001.bak"]


def test_second_driver_is_kept_out(bench) -> None:
    with (
        bench.folder.locked(),
        pytest.raises(RankSearchError, match="another run of this study is at work"),
        bench.folder.locked(),
    ):
        pass
    with bench.folder.locked():
        pass


@pytest.mark.parametrize(
    "url", ["postgresql+absent://user:secret@127.0.0.1/db", "no url: secret", "sqlite:////absent/secret/x.db"]
)
def test_storage_that_can_not_be_opened_never_shows_its_password(bench, url) -> None:
    with pytest.raises(InputError, match=r"--storage: can't be opened") as raised:
        create_study(bench.folder, url)
    assert "secret" not in str(raised.value)


def test_changed_settings_are_refused_by_name() -> None:
    kept = {"training": {"steps": 40, "seed": 1}, "space": {"ladder": [0, 1]}}
    refuse_change(kept, {"training": {"steps": 40, "seed": 1}, "space": {"ladder": [0, 1]}})
    with pytest.raises(InputError, match=r"training\.steps: is 60, but the study was begun with 40"):
        refuse_change(kept, {"training": {"steps": 60, "seed": 1}, "space": {"ladder": [0, 1]}})
    with pytest.raises(InputError, match=r"space\.ladder: is \[0, 2\]"):
        refuse_change(kept, {"training": {"steps": 40, "seed": 1}, "space": {"ladder": [0, 2]}})
    with pytest.raises(InputError, match=r"new: is 1, but the study was begun with None"):
        refuse_change(kept, {**kept, "new": 1})


def test_file_is_replaced_whole(tmp_path) -> None:
    write_text(tmp_path / "deep" / "file.json", "old")
    write_text(tmp_path / "deep" / "file.json", "new")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file.json"]
    assert (tmp_path / "deep" / "file.json").read_text() == "new"


def test_folder_that_fails_to_fill_leaves_the_old_one(tmp_path) -> None:
    for name in ("one", "two"):
        with whole_folder(tmp_path / "out", replace=True) as partial:
            (partial / name).write_text(name)
    with pytest.raises(OSError, match="not empty"), whole_folder(tmp_path / "out") as partial:
        (partial / "three").write_text("three")
    with pytest.raises(FileNotFoundError), whole_folder(tmp_path / "out", replace=True) as partial:
        (partial / "three").write_text((partial / "absent").read_text())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["two"]


def test_record_of_an_older_form_is_refused_in_one_line(bench) -> None:
    study = bench.study()
    record().write(study)
    stored = dict(study.user_attrs["rank_search"])
    del stored["space"]
    study.set_user_attr("rank_search", {**stored, "environment": {"versions": {"rank_search": "0.0.9"}}})
    with pytest.raises(
        InputError, match=r"STUDY: the study 'small' was begun with rank_search 0\.0\.9 in an older form"
    ):
        StudyRecord.read(bench.study())


def test_record_keeps_joint_settings_heads_and_what_was_cut(bench) -> None:
    space = dataclasses.replace(record().space, joint={"alpha": JointSetting(1, 8, 4, log=True)}, transposed=("a",))
    kept = dataclasses.replace(record(space), head=("classifier",), head_parameters=7, cut={"texts": (1, 9)})
    kept.write(bench.study())
    assert StudyRecord.read(bench.study()) == kept
