import pytest

from rank_search.errors import InputError, RankSearchError
from rank_search.files import whole_folder, write_text
from rank_search.search.record import StudyRecord, refuse_change
from rank_search.search.storage import StudyFolder, create_study, find_study, load_study
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
    refuse_change(kept, {"training": {"steps": 40, "seed": 1}, "space": {"ladder": [0, 1]}}, "f.yaml")
    with pytest.raises(InputError, match=r"f\.yaml: training\.steps: is 60, but the study was begun with 40"):
        refuse_change(kept, {"training": {"steps": 60, "seed": 1}, "space": {"ladder": [0, 1]}}, "f.yaml")
    with pytest.raises(InputError, match=r"space\.ladder: is \[0, 2\]"):
        refuse_change(kept, {"training": {"steps": 40, "seed": 1}, "space": {"ladder": [0, 2]}}, "f.yaml")
    with pytest.raises(InputError, match=r"new: is 1, but the study was begun with None"):
        refuse_change(kept, {**kept, "new": 1}, "f.yaml")


def test_file_is_replaced_whole(tmp_path) -> None:
    write_text(tmp_path / "deep" / "file.json", "old")
    write_text(tmp_path / "deep" / "file.json", "new")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file.json"]
    assert (tmp_path / "deep" / "file.json").read_text() == "new"


def test_folder_that_fails_to_fill_leaves_the_old_one(tmp_path) -> None:
    for name in ("one", "two"):
        with whole_folder(tmp_path / "out") as partial:
            (partial / name).write_text(name)
    with pytest.raises(FileNotFoundError), whole_folder(tmp_path / "out") as partial:
        (partial / "three").write_text((partial / "absent").read_text())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["two"]
