"""The handle of a study: found or refused, and what is read by it as it is now."""

import dataclasses
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from rank_search.core.candidate import Candidate
from rank_search.core.errors import InputError
from rank_search.core.rivals import FAMILY, SVD, Rival
from rank_search.study.folder import StudyFolder
from rank_search.study.handle import Study
from rank_search.study.leases import Leases
from rank_search.study.metadata import StudyMetadata
from rank_search.study.record import TrialRequest, keep
from rank_search.study.storage import DIRECTIONS, create_study
from tests.bench import SPACE, metadata, recorded, study_config

LARGEST = SPACE.uniform(4)


@pytest.fixture
def study(tmp_path) -> Study:
    """A study in memory, which has no trial yet."""
    optuna_study = optuna.create_study(study_name="small", directions=DIRECTIONS)
    return Study.start(optuna_study, metadata(), StudyFolder(tmp_path / "small"), None)


def complete(study: Study, score: float) -> int:
    """The number of a new trial that has a score."""
    trial = study.optuna_study.ask()
    for name in SPACE.dimensions:
        trial.suggest_int(name, 0, 3)
    recorded(study, trial.number, score)
    return trial.number


def test_study_that_was_made_but_never_started_counts_as_none(bench) -> None:
    bench.study()
    assert Study.find(bench.folder) is None
    with pytest.raises(
        InputError, match=r"study\.db: holds no study yet: restore it from a copy, or run the study again"
    ):
        Study.open(str(bench.folder.path))


@pytest.mark.parametrize("objectives", [DIRECTIONS, DIRECTIONS[::-1], ["minimize"]])
def test_study_of_another_program_is_refused_and_left_as_it_was(tmp_path, objectives) -> None:
    """A user's own Optuna study in the storage, of the name that the study file gives."""
    url, folder = f"sqlite:///{tmp_path / 'all.db'}", StudyFolder(tmp_path / "small")
    theirs = optuna.create_study(storage=url, study_name="small", directions=objectives)
    theirs.add_trial(create_trial(values=[0.5] * len(objectives)))
    refused = r"^STUDY: the study 'small' .* give this study another name"
    with pytest.raises(InputError, match=refused):
        Study.find(folder, url)
    with pytest.raises(InputError, match=refused):
        StudyMetadata.read(create_study(folder, url))
    (left,) = optuna.get_all_study_summaries(url)
    assert (left.n_trials, left.user_attrs) == (1, {})
    assert not folder.path.exists()


def test_renamed_folder_still_holds_its_study(bench) -> None:
    complete(bench.open(), 0.5)
    moved = bench.folder.path.rename(bench.folder.path.with_name("renamed"))
    study = Study.open(str(moved))
    assert (study.name, study.folder.name, len(study.trials())) == ("small", "renamed", 1)


def test_unknown_study_is_answered_with_a_similar_one(bench) -> None:
    bench.study()
    with pytest.raises(InputError, match=r"^STUDY: no study 'smal'; did you mean 'small'\?$"):
        Study.open(str(bench.folder.path.with_name("smal")))
    with pytest.raises(InputError, match=r"^STUDY: no study 'smal'; did you mean 'small'\?$"):
        Study.open("elsewhere/smal", bench.folder.url)
    with pytest.raises(InputError, match=r"^STUDY: no study 'demo'; known: none$"):
        Study.open(str(bench.folder.path / "deeper" / "demo"))


def test_files_of_another_study_of_the_same_name_are_refused(bench) -> None:
    study = bench.open()
    bench.folder.claim("small")
    Study.open(str(bench.folder.path))
    dataclasses.replace(metadata(), identity="other").write(study.optuna_study)
    with pytest.raises(InputError, match="holds the files of another study"):
        Study.open(str(bench.folder.path))


def test_handle_is_of_its_metadata(study) -> None:
    assert (study.name, study.space, study.metric) == ("small", SPACE, "ndcg@10")
    assert study.config.frozen() == study_config().frozen()


@pytest.mark.parametrize(
    ("storage", "shared", "in_commands"),
    [
        (None, False, "demo"),
        ("sqlite:///x.db", False, "demo --storage URL"),
        ("postgresql+psycopg://me:s3cret@host/db", True, "demo --storage URL"),
    ],
)
def test_commands_name_the_study_without_the_password_of_its_storage(study, storage, shared, in_commands) -> None:
    stored = dataclasses.replace(study, folder=StudyFolder(Path("studies/demo")), storage=storage)
    assert stored.is_shared is shared
    assert stored.name_in_commands == in_commands


def test_trials_are_read_as_they_are_now(study) -> None:
    assert study.trials() == []
    finished, trial = complete(study, 0.5), study.optuna_study.ask()
    assert [record.state for record in study.trials()] == [TrialState.COMPLETE, TrialState.RUNNING]
    keep(trial, attempts=2)
    assert study.trial(trial.number).attributes.attempts == 2
    study.optuna_study.tell(trial, state=TrialState.FAIL)
    assert [record.state for record in study.trials()] == [TrialState.COMPLETE, TrialState.FAIL]
    assert study.trial(finished) is study.trial(finished), "what changes no more is read once"
    with pytest.raises(IndexError):
        study.trial(2)


def test_trial_of_this_driver_is_read_as_another_left_it(study) -> None:
    trial = study.optuna_study.ask()
    keep(optuna.trial.Trial(study.optuna_study, trial._trial_id), attempts=3)
    assert study.read_now(trial).attributes.attempts == 3


def test_handles_of_two_studies_share_no_trials(study, tmp_path) -> None:
    complete(study, 0.5)
    study.trials()
    other = optuna.create_study(study_name="other", directions=DIRECTIONS)
    handle = Study.start(other, metadata(), StudyFolder(tmp_path / "other"), None)
    complete(handle, 0.7)
    assert [record.score for record in handle.trials()] == [0.7]


def test_request_that_is_enqueued_is_the_next_trial(study) -> None:
    rival = Rival(SVD, "scratch", rank=8)
    inside = TrialRequest(Candidate(LARGEST), FAMILY)
    outside = TrialRequest(Candidate(SPACE.uniform(8)), SVD, rival)
    for request in (inside, outside):
        study.enqueue(request)
    first, second = (study.read_now(study.optuna_study.ask()) for _ in range(2))
    assert (first.candidate, first.attributes.kind) == (inside.candidate, FAMILY)
    assert (second.candidate, second.rival) == (outside.candidate, rival)


def test_table_has_a_row_for_each_trial(study) -> None:
    complete(study, 0.5)
    study.optuna_study.ask()
    table = study.table()
    assert table["state"].tolist() == ["COMPLETE", "RUNNING"]
    assert table["score"].dropna().tolist() == [0.5]


def test_scores_of_examples_are_those_of_the_metric_and_may_be_elsewhere(study) -> None:
    assert list(study.example_scores(0)) == []
    study.folder.write_result(0, {"values": {"recall@10": [1.0], "ndcg@10": [0.5, 0.25]}})
    assert study.example_scores(0) == [0.5, 0.25]
    study.folder.write_result(0, {"values": {"recall@10": [1.0]}})
    assert list(study.example_scores(0)) == []


def test_study_runs_while_a_living_driver_holds_a_trial_or_a_part(study) -> None:
    assert not study.is_running()
    leases = Leases(study.lock)
    trial = study.optuna_study.ask()
    assert not study.is_running(), "a trial of a driver that died"
    leases.acquire(trial)
    assert study.is_running()
    study.optuna_study.tell(trial, state=TrialState.FAIL)
    assert not study.is_running(), "its lease means nothing now"
    with leases:
        leases.acquire_part(study.optuna_study, "verdict")
        assert study.is_running()
    assert not study.is_running()


def test_trial_whose_driver_died_does_not_run(study) -> None:
    lease = {"driver": "x", "host": "elsewhere", "pid": 1, "started": 0.0, "expires": 0.0}
    study.optuna_study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs={"lease": lease}))
    assert not study.is_running()
    study.optuna_study.add_trial(
        create_trial(state=TrialState.RUNNING, user_attrs={"lease": {**lease, "expires": 1e12}})
    )
    assert study.is_running()


def test_pack_is_kept_with_the_study(study) -> None:
    assert study.pack is None
    study.keep_pack(4)
    assert Study(study.optuna_study, study.metadata, study.folder).pack == 4
