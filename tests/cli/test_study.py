"""What all commands on a study have in common: how they find it, and what they load."""

import pytest

from rank_search.cli.study import open_study
from rank_search.core.errors import InputError
from tests.bench import metadata
from tests.cli.conftest import loaded_by, refused

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("verb", ["status", "report", "choose", "export", "doctor"])
def test_unknown_study(command, verb) -> None:
    options = ("--to", "peft", "--out", "out") if verb == "export" else ()
    assert refused(command, verb, "absent", *options) == "STUDY: no study 'absent'; known: none"


def test_study_is_opened_by_path(bench) -> None:
    bench.search(3)
    study = open_study(str(bench.folder.path), None)
    assert (study.name, len(study.trials())) == ("small", 3)
    assert study.space == metadata().space
    assert study.folder == bench.folder


def test_unknown_study_names_those_beside_it(bench) -> None:
    bench.search(1)
    with pytest.raises(InputError, match=r"STUDY: no study 'smal'; did you mean 'small'\?"):
        open_study(str(bench.folder.path.parent / "smal"), None)


def test_password_of_a_storage_is_never_shown(command, study_file) -> None:
    url = "postgresql+psycopg://me:hunter2@127.0.0.1:1/studies"
    absent = refused(command, "run", study_file, "--storage", "sqlite:////absent/folder/x.db")
    assert absent == "--storage: '/absent/folder' is no folder; make it first"
    for arguments in (("run", study_file), ("status", "mine")):
        line = refused(command, *arguments, "--storage", url)
        assert line.startswith("--storage: can't be opened")
        assert "hunter2" not in line


@pytest.mark.parametrize("verb", ["status", "report", "choose"])
def test_work_on_a_finished_study_loads_no_torch(bench, verb) -> None:
    bench.search(6)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(bench.folder.path.parent)
        modules = loaded_by((verb, "./small"))
    assert "optuna" in modules
    assert not modules & {"torch", "transformers", "peft"}
