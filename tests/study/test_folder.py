"""The folder of a study: whose files it holds, what of each trial, and one driver at a time."""

import json
import multiprocessing
import shlex
from pathlib import Path

import pytest

from rank_search.core.errors import InputError, RankSearchError
from rank_search.study.folder import CONFIRMATIONS, StudyFolder


@pytest.fixture
def folder(tmp_path) -> StudyFolder:
    return StudyFolder(tmp_path / "studies" / "small")


def write_adapter(folder: StudyFolder, trial: int, weights: str = "weights") -> None:
    folder.adapter(trial).mkdir(parents=True)
    (folder.adapter(trial) / "adapter_model.safetensors").write_text(weights)
    (folder.adapter(trial) / "adapter_config.json").write_text("{}")


@pytest.mark.parametrize(
    ("study", "path", "name", "in_commands"),
    [
        ("demo", "studies/demo", "demo", "demo"),
        ("studies/demo", "studies/demo", "demo", "demo"),
        ("elsewhere/demo", "elsewhere/demo", "demo", "elsewhere/demo"),
        ("./demo", "demo", "demo", "./demo"),
        ("my study", "studies/my study", "my study", "'my study'"),
        ("a;b/$(c)", "a;b/$(c)", "$(c)", "'a;b/$(c)'"),
    ],
)
def test_study_by_name_and_by_path(study, path, name, in_commands) -> None:
    folder = StudyFolder.named(study)
    assert folder.path == Path(path)
    assert folder.name == name
    assert folder.name_in_commands == in_commands
    assert StudyFolder.named(*shlex.split(in_commands)) == folder, "the command finds it again"
    assert folder.url == f"sqlite:///{path}/study.db"


def test_linked_study_has_the_name_of_its_folder_and_is_found_by_its_link(tmp_path, monkeypatch) -> None:
    (tmp_path / "data" / "demo").mkdir(parents=True)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "link").symlink_to(tmp_path / "data" / "demo")
    monkeypatch.chdir(tmp_path)
    folder = StudyFolder.named("link")
    assert (folder.name, folder.name_in_commands) == ("demo", "link")


@pytest.mark.parametrize("identity", ["abc123", "abc"])
def test_files_of_another_study_are_refused(folder, identity) -> None:
    folder.claim("abc123def")
    folder.claim("abc123def")
    folder.check_owner("abc123def")
    for refusing in (folder.claim, folder.check_owner):
        with pytest.raises(InputError, match=r"holds the files of another study .*; move the folder away") as refused:
            refusing(identity)
        assert refused.value.file == str(folder.path)
    folder.check_owner("abc123def")


def test_files_without_an_owner_are_of_any_study(folder) -> None:
    folder.check_owner("abc123def")
    assert not folder.path.exists(), "looking makes nothing"
    folder.claim("abc123def")
    (folder.path / "identity").write_text("abc")  # cut short, as by a full disk
    folder.check_owner("abc123def")


def test_adapters_of_trials_that_are_not_kept_are_removed(folder) -> None:
    assert folder.adapters() == {}
    for trial in (1, 2, 12_345):
        write_adapter(folder, trial)
    backup = folder.path / "adapters" / "0001.bak"
    backup.mkdir()
    assert folder.adapters() == {trial: folder.adapter(trial) for trial in (1, 2, 12_345)}
    folder.keep_adapters({2, 99})
    assert folder.adapters().keys() == {2}
    assert backup.exists(), "a folder of a strange name is the user's"


def test_adapter_is_checked_against_what_was_trained(folder) -> None:
    write_adapter(folder, 3)
    folder.write_result(3, {"adapter": folder.adapter_digests(3)})
    (folder.adapter(3) / "adapter_config.json").write_text('{"r": 4}')
    folder.check_adapter(3)
    weights = folder.adapter(3) / "adapter_model.safetensors"
    for damage in (lambda: weights.write_text("edited"), weights.unlink):
        damage()
        with pytest.raises(InputError, match=r"is not what was trained: .*; restore it, or export another") as refused:
            folder.check_adapter(3)
        assert refused.value.file == str(weights)


def test_digests_name_files_by_their_place_in_the_folder(folder) -> None:
    for name in ("generator", "retriever"):
        (folder.adapter(0) / name).mkdir(parents=True)
        (folder.adapter(0) / name / "adapter_model.safetensors").write_text(name)
    assert list(folder.adapter_digests(0)) == [
        "generator/adapter_model.safetensors",
        "retriever/adapter_model.safetensors",
    ]
    assert folder.adapter_digests(1) == {}
    folder.check_adapter(1)  # of which nothing was kept


def test_results_come_back_by_trial(folder) -> None:
    assert folder.read_result(4) == {}
    folder.write_result(4, {"values": {"accuracy": [1.0, 0.0]}})
    folder.write_result(4, {"values": {"accuracy": [1.0, 0.5]}})
    assert folder.read_result(4) == {"values": {"accuracy": [1.0, 0.5]}}
    assert folder.read_result(5) == {}
    assert folder.result(4) == folder.path / "results" / "0004.json"


@pytest.mark.parametrize("content", ['{"values": {', "", "\0" * 9])
def test_damaged_results_are_named_with_what_to_do(folder, content) -> None:
    folder.write_result(1, {})
    folder.result(1).write_text(content)
    with pytest.raises(RankSearchError, match=r"0001\.json: is damaged; restore it, or remove it"):
        folder.read_result(1)


def test_test_split_is_that_of_the_same_trials_alone(folder) -> None:
    """Another rule chooses another trial, whose scores are still to be found."""
    trials = {"chosen": 7, "uniform": 2}
    assert folder.read_test(trials) == {}
    folder.write_test(trials, {"values": {"chosen": [1.0]}})
    assert folder.read_test({"uniform": 2, "chosen": 7}) == {"trials": trials, "values": {"chosen": [1.0]}}
    assert folder.read_test({**trials, "chosen": 8}) == {}
    assert folder.read_test({"chosen": 7}) == {}


def test_confirmations_are_read_up_to_the_first_that_is_missing(folder) -> None:
    assert folder.read_confirmations("abc") == []
    for number in (0, 1, 3):
        folder.write_training(CONFIRMATIONS, "abc", number, {"score": number})
    folder.write_training(CONFIRMATIONS, "abc-alpha=8.0", 2, {"score": 9})
    assert folder.read_confirmations("abc") == [{"score": 0}, {"score": 1}]
    assert folder.read_training(CONFIRMATIONS, "abc", 3) == {"score": 3}


def test_files_are_json_that_others_read(folder) -> None:
    folder.write_training(CONFIRMATIONS, "abc", 0, {"score": 0.5})
    folder.write_test({"chosen": 7}, {})
    contents = {path.name: json.loads(path.read_text()) for path in folder.path.rglob("*.json")}
    assert contents == {"abc-0.json": {"score": 0.5}, "test.json": {"trials": {"chosen": 7}}}


def test_second_driver_is_kept_out(folder) -> None:
    problem = "another run of this study is at work; wait for it, or stop it"
    with folder.locked(), pytest.raises(RankSearchError, match=problem), folder.locked():
        pass
    with pytest.raises(ZeroDivisionError), folder.locked():
        raise ZeroDivisionError
    with folder.locked():
        pass


def test_drivers_of_a_shared_storage_keep_nobody_out(folder) -> None:
    with folder.locked(shared=True), folder.locked(shared=True), folder.locked():
        pass


def hold(path: Path, held) -> None:
    with StudyFolder(path).locked():
        held.send(True)
        held.recv()  # until it is killed


def test_lock_ends_with_the_process_that_held_it(folder) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    driver = context.Process(target=hold, args=(folder.path, theirs))
    driver.start()
    assert ours.recv()
    with pytest.raises(RankSearchError, match="another run"), folder.locked():
        pass
    driver.kill()
    driver.join()
    with folder.locked():
        pass
