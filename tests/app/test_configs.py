from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from rank_search.app.configs import find_study_file, load_study_file, naming_source, write_study_file
from rank_search.core.errors import InputError
from tests.conftest import ROOT

SETTINGS = {"study": "mine", "model": {"source": "a/b"}, "task": {"kind": "retrieval"}}


def test_shipped_file_is_found_from_any_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_study_file(Path("configs/demo.yaml")) == ROOT / "configs" / "demo.yaml"
    assert load_study_file(Path("configs/demo.yaml"), ["search.trials=3"]).search.trials == 3


def test_file_here_goes_before_a_shipped_one(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "demo.yaml").write_text(yaml.safe_dump(SETTINGS))
    assert load_study_file(Path("configs/demo.yaml")).study == "mine"


@pytest.mark.parametrize("name", ["demo.yaml", "configs/absent.yaml", "other/demo.yaml"])
def test_other_paths_are_left_as_they_are(tmp_path, monkeypatch, name) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_study_file(Path(name)) == Path(name)


@pytest.mark.parametrize(
    ("field", "overrides", "expected"),
    [
        ("space.ladder", (), "mine.yaml: space.ladder: is wrong"),
        ("space.ladder", ("space.ladder=[1]",), "--set: space.ladder: is wrong"),
        ("--storage", (), "--storage: is wrong"),
        (None, (), "is wrong"),
    ],
)
def test_error_names_where_its_field_is_set(field, overrides, expected) -> None:
    with pytest.raises(InputError) as refusal, naming_source(Path("mine.yaml"), overrides):
        raise InputError("is wrong", field=field)
    assert str(refusal.value) == expected


def test_study_file_is_checked_and_never_replaced(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    with pytest.raises(ValidationError):
        write_study_file("study: mine", path)
    assert not path.exists()
    write_study_file(yaml.safe_dump(SETTINGS), path)
    with pytest.raises(InputError, match=r"--out: .* exists; name another"):
        write_study_file(yaml.safe_dump(SETTINGS), path)
