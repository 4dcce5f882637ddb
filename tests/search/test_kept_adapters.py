"""Which adapters stay on disk while a search goes on, and when the others are removed."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState

from rank_search.analysis.maps import study_maps
from rank_search.core.candidate import Candidate
from rank_search.core.rivals import EVA, KINDS, SEARCH, UNIFORM, Rival
from rank_search.search.kept_adapters import KeptAdapters
from rank_search.study.handle import Study
from rank_search.study.record import TrialRequest
from tests.bench import SPACE, metadata, recorded, study_config
from tests.search.test_schedule import ALL

UNIFORM_TRIAL, RIVAL, LIKELY, AT_LEAST, UNLIKELY, FAILED = range(6)
PROBABILITY = {UNIFORM_TRIAL: 0.0, LIKELY: 0.4, AT_LEAST: 0.01, UNLIKELY: 0.009}


@pytest.fixture
def study(bench) -> Study:
    """A study in memory of six trials, each of which has left an adapter."""
    study = Study(optuna.create_study(directions=["maximize", "minimize"]), metadata(), bench.folder)
    add(study, plain(2, UNIFORM))
    add(study, TrialRequest(Candidate(SPACE.uniform(2), recipe="eva"), EVA, Rival(EVA, "eva", rank=2)))
    for _ in (LIKELY, AT_LEAST, UNLIKELY):
        add(study, plain(4))
    add(study, plain(4), None)
    return study


def plain(rank: int, kind=SEARCH, batch_order: int = 0) -> TrialRequest:
    return TrialRequest(SPACE.candidate(SPACE.proposal(SPACE.uniform(rank))), kind, batch_order=batch_order)


def add(study: Study, request: TrialRequest, score: float | None = 0.5) -> None:
    """Adds a trial that has ended; it has failed if there is no score."""
    study.enqueue(request)
    trial = study.optuna_study.ask()
    for name in {} if request.rival else SPACE.dimensions:
        trial.suggest_int(name, 0, 3)
    study.folder.adapter(trial.number).mkdir(parents=True)
    if score is None:
        study.optuna_study.tell(trial, state=TrialState.FAIL)
    else:
        recorded(study, trial.number, score)


def kept_of(study: Study, repeats: int = 0, probability=PROBABILITY) -> KeptAdapters:
    return KeptAdapters(study, study_config(search={"repeats": repeats}), lambda: probability)


def numbers(study: Study) -> set[int]:
    return set(study.folder.adapters())


def test_uniform_maps_rivals_and_likely_maps_are_kept(study) -> None:
    kept_of(study).remove_others()
    assert numbers(study) == {UNIFORM_TRIAL, RIVAL, LIKELY, AT_LEAST}


def test_all_that_have_a_score_are_kept_until_repeats_tell_the_noise(study) -> None:
    kept_of(study, repeats=2).remove_others()
    assert numbers(study) == {UNIFORM_TRIAL, RIVAL, LIKELY, AT_LEAST, UNLIKELY}
    add(study, plain(4, batch_order=1))
    kept_of(study, repeats=2, probability={**PROBABILITY, 6: 0.4}).remove_others()
    assert numbers(study) == {UNIFORM_TRIAL, RIVAL, LIKELY, AT_LEAST, 6}


def test_a_failed_repeat_tells_nothing_of_the_noise(study) -> None:
    add(study, plain(4, batch_order=1), None)
    kept_of(study, repeats=2).remove_others()
    assert UNLIKELY in numbers(study)


def test_a_trial_at_work_keeps_no_adapter_of_an_earlier_attempt(study) -> None:
    study.enqueue(plain(4))
    trial = study.optuna_study.ask()
    study.folder.adapter(trial.number).mkdir()
    kept_of(study).remove_others()
    assert trial.number not in numbers(study)


def test_removal_is_due_when_there_are_more_than_twice_as_many_as_were_kept_last(study) -> None:
    kept = kept_of(study)
    assert kept.is_due  # none was kept yet
    kept.remove_others()
    assert len(numbers(study)) == 4
    for number in range(10, 14):
        study.folder.adapter(number).mkdir()
        assert not kept.is_due
    study.folder.adapter(14).mkdir()
    assert kept.is_due


def test_nothing_is_due_where_there_is_nothing(bench) -> None:
    kept = kept_of(bench.open())
    assert not kept.is_due
    kept.remove_others()
    assert not kept.is_due


@pytest.mark.slow
def test_adapters_of_the_front_and_the_uniform_maps_are_kept(bench) -> None:
    study = bench.search(16)
    kept = {int(path.name) for path in (bench.folder.path / "adapters").iterdir()}
    front = {trial.number for trial in study.best_trials}
    assert kept == (front | {1, 2, 3}) - {0}
    assert len(kept) < 16


@pytest.mark.slow
def test_adapters_of_baselines_and_of_likely_maps_are_kept(bench) -> None:
    study = bench.search(20, baselines=ALL)
    kept = bench.folder.adapters().keys()
    maps = study_maps(bench.handle())
    likely = {n for numbers in maps[maps["front_probability"] >= 0.01]["trials"] for n in numbers}
    kinds = {trial.number: trial.user_attrs.get("kind", "") for trial in study.trials}
    baselines = {number for number, kind in kinds.items() if kind in {UNIFORM, *KINDS.values()}}
    complete = {trial.number for trial in study.trials if trial.state == TrialState.COMPLETE and trial.values[1] > 0}
    assert kept == (likely | baselines) & complete
    assert len(kept) < len(complete)
