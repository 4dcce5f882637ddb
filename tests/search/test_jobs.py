"""A job follows from what the study keeps of a trial, now or later."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from rank_search.core.candidate import Candidate
from rank_search.core.seeds import adapter_seed, batch_seed
from rank_search.search.jobs import job_of
from rank_search.study.folder import StudyFolder
from rank_search.study.record import TrialAttributes, TrialRecord
from tests.bench import SPACE

FOLDER = StudyFolder.named("small")
LARGE = Candidate(SPACE.uniform(8))
STUDY = SimpleNamespace(folder=FOLDER, trial=lambda number: {7: trial(7, LARGE)}[number])
PLAIN = Candidate(SPACE.uniform(2), {"alpha": 8.0})


def trial(number=3, candidate=PLAIN, state=TrialState.RUNNING, **attributes) -> TrialRecord:
    return TrialRecord(number, state, {}, candidate, TrialAttributes(**attributes))


def test_candidate_goes_unchanged_into_the_job() -> None:
    job = job_of(trial(), 0, STUDY)
    assert job.candidate is PLAIN
    assert (job.number, job.split, job.source) == (3, "validation", None)


@given(st.integers(0, 2**31), st.integers(0, 500), st.integers(0, 9))
def test_seeds_follow_from_the_study_and_the_order_of_batches(seed, number, batch_order) -> None:
    """So that maps trained on the same order are compared in pairs."""
    job = job_of(trial(number, batch_order=batch_order), seed, STUDY)
    assert job.seed == adapter_seed(seed, batch_order)
    assert job.data_seed == batch_seed(seed, batch_order)


def test_truncation_finds_the_adapter_of_its_source() -> None:
    truncation = Candidate(SPACE.uniform(1), recipe="truncate", source=7)
    assert job_of(trial(candidate=truncation), 0, STUDY).source == FOLDER.adapter(7)
    first = replace(truncation, source=0)
    assert job_of(trial(candidate=first), 0, STUDY).source == FOLDER.adapter(0)


def test_a_repeated_truncation_is_cut_out_of_a_large_training_on_its_own_batches() -> None:
    truncation = Candidate(SPACE.uniform(1), recipe="truncate", source=7)
    job = job_of(trial(candidate=truncation, batch_order=1), 0, STUDY)
    assert (job.source, job.large) == (None, LARGE)


@pytest.mark.parametrize("recipe", ["eva", "adalora"])
def test_job_is_the_same_when_the_trial_has_ended(recipe) -> None:
    """The ranks that came out, and all else that is kept of the end, are not asked for again."""
    candidate = Candidate(SPACE.uniform(2), recipe=recipe)
    ranks = {name: i for i, name in enumerate(SPACE.shapes)}
    job = job_of(trial(candidate=candidate), 0, STUDY)
    ended = trial(candidate=candidate, state=TrialState.COMPLETE, ranks=ranks, seed=job.seed, seconds=2.0)
    assert ended.rank_map.ranks == ranks
    assert job_of(ended, 0, STUDY) == job


def test_a_trial_is_trained_again_with_the_seed_on_record() -> None:
    """Older versions gave each trial a seed of its own."""
    assert job_of(trial(state=TrialState.COMPLETE, seed=17, seconds=2.0), 0, STUDY).seed == 17


def test_trial_whose_proposal_is_not_drawn_has_no_job() -> None:
    with pytest.raises(ValueError, match="the proposal of trial 3 is not drawn"):
        job_of(trial(candidate=None), 0, STUDY)
