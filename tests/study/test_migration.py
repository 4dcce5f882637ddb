"""A study that the code before schema 2 trained: migrated with a copy kept, or refused in one line."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import optuna
import pytest

from rank_search.analysis.comparison import Comparison
from rank_search.analysis.evidence import study_evidence
from rank_search.analysis.trials import scored
from rank_search.core.errors import InputError, RankSearchError
from rank_search.core.rivals import ADALORA, EVA, SVD, UNIFORM, Rival, Rivals
from rank_search.report.summary import summarise, verdict_of
from rank_search.study import migration
from rank_search.study.folder import StudyFolder
from rank_search.study.handle import Study
from rank_search.study.metadata import SCHEMA

pytestmark = pytest.mark.slow

ARCHIVE = Path(__file__).parent / "schema_1.tar.gz"  # of a run of configs/demo.yaml cut short, without its adapters


@pytest.fixture
def old(tmp_path) -> StudyFolder:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return StudyFolder(tmp_path / "old_small")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_study_is_migrated_and_its_database_kept(old) -> None:
    before = digest(old.path / "study.db")
    study = Study.open(str(old.path))
    assert study.metadata.schema == SCHEMA
    assert digest(old.path / migration.COPY) == before
    again = digest(old.path / "study.db")
    Study.open(str(old.path))
    assert digest(old.path / "study.db") == again, "it is migrated once"


def test_trials_are_those_that_were_trained(old) -> None:
    earlier = optuna.load_study(storage=old.url, study_name="old_small").trials
    study = Study.open(str(old.path))
    for trial, record in zip(earlier, study.trials(), strict=True):
        assert (record.number, record.state, record.score) == (trial.number, trial.state, trial.values[0])
        assert record.attributes.seed == trial.user_attrs["seed"]
        assert record.attributes.batch_order == trial.user_attrs.get("round", 0)
        assert study.space.parameters(record.rank_map) == trial.values[1]
        assert (record.started, record.finished) == (trial.datetime_start, trial.datetime_complete)
        if "ranks" in trial.user_attrs:
            assert dict(record.rank_map.ranks) == trial.user_attrs["ranks"]


def test_rivals_have_keys_in_place_of_sentences(old) -> None:
    study = Study.open(str(old.path))
    rivals = {trial.rival: trial for trial in study.trials() if trial.rival}
    assert set(rivals) == set(Rivals(study.space, ["svd", "eva", "adalora"]).all)
    assert {trial.attributes.kind for trial in study.trials()} == {UNIFORM, SVD, EVA, ADALORA, "search"}
    for recipe, kind in (("eva", EVA), ("adalora", ADALORA)):
        trial = rivals[Rival(kind, recipe, rank=2)]
        assert trial.candidate.rank_map == study.space.uniform(2), "the requested ranks, not those that came out"
    large = rivals[Rival(SVD, "scratch", rank=4)].number
    assert {trial.candidate.source for trial in rivals.values() if trial.candidate.recipe == "truncate"} == {large}


def test_verdict_is_found_again(old) -> None:
    """Its fresh trainings and scores on the test split lie in files beside the database."""
    study = Study.open(str(old.path))
    evidence = study_evidence(study)
    kept = json.loads((old.path / "test.json").read_text())
    by_number = scored(evidence.trials)
    chosen, *rivals = [(role, by_number[number]) for role, number in kept["trials"].items()]
    verdict = verdict_of(study, evidence, Comparison(chosen[1], dict(rivals)), None)
    assert (verdict.split, verdict.seeds) == ("test", 3)
    deltas = {difference.role: difference.delta for difference in verdict.comparisons}
    assert pytest.approx(-0.0023, abs=5e-5) in deltas.values(), deltas
    assert study.folder.read_test(kept["trials"])["values"].keys() >= {"untrained", "chosen"}


def test_study_of_before_is_decided_by_the_rule_of_now(old) -> None:
    summary = summarise(Study.open(str(old.path)))
    assert str(summary.rule) == "as-good-as-best"
    assert summary.verdict.headline
    assert summary.evidence.selected is None  # so that the halves of its examples are tested


@pytest.mark.parametrize("moment", ["_copy", "_rename_confirmations", "_rename_roles"])
def test_migration_that_is_killed_is_done_again(old, monkeypatch, moment) -> None:
    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    before = digest(old.path / "study.db")
    with monkeypatch.context() as patch:
        patch.setattr(migration, moment, killed)
        with pytest.raises(Killed):
            Study.open(str(old.path))
    assert digest(old.path / "study.db") == before
    assert len(Study.open(str(old.path)).trials()) == 27


def test_study_at_work_is_not_migrated(old) -> None:
    before = digest(old.path / "study.db")
    with old.locked(), pytest.raises(RankSearchError, match="another run of this study is at work"):
        Study.open(str(old.path))
    assert digest(old.path / "study.db") == before


def test_study_in_another_storage_is_refused_in_one_line(old, tmp_path) -> None:
    elsewhere = tmp_path / "elsewhere.db"
    shutil.move(old.path / "study.db", elsewhere)
    with pytest.raises(InputError, match=r"STUDY: the study 'old_small' was started by rank_search 0\.1\.0 in an"):
        Study.open(str(old.path), f"sqlite:///{elsewhere}")


def test_study_of_a_later_schema_is_refused_in_one_line(old) -> None:
    study = Study.open(str(old.path)).optuna_study
    content = study.user_attrs["rank_search"]
    study.set_user_attr("rank_search", {**content, "schema": SCHEMA + 1})
    with pytest.raises(InputError, match=r"STUDY: .* keeps studies in another form; use that version"):
        Study.open(str(old.path))
