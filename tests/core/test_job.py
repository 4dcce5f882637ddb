"""A job is its candidate with all that draws its training; recipes change its ranks and nothing else."""

import pickle
from pathlib import Path

import pytest

from rank_search.core.candidate import Candidate
from rank_search.core.job import Died, Job
from rank_search.core.ranks import RankMap

CANDIDATE = Candidate(RankMap({"a": 2, "b": 0}), {"alpha": 8.0}, "truncate", source=7)
JOB = Job(CANDIDATE, seed=1, data_seed=2, number=3, source=Path("adapters/0007"), split="test")
OTHER = RankMap({"a": 1, "b": 1})


def test_job_is_of_its_candidate() -> None:
    assert (JOB.rank_map, JOB.settings, JOB.recipe) == (CANDIDATE.rank_map, {"alpha": 8.0}, "truncate")


def test_job_is_scored_on_the_validation_split_unless_it_says_otherwise() -> None:
    job = Job(CANDIDATE, 1, 2)
    assert (job.split, job.number, job.source) == ("validation", 0, None)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [(None, {"alpha": 8.0}), ({}, {}), ({"dropout": 0.1}, {"dropout": 0.1})],
)
def test_job_at_other_ranks_keeps_all_else(settings, expected) -> None:
    moved = JOB.at(OTHER, settings)
    assert moved == Job(Candidate(OTHER, expected, "truncate", 7), 1, 2, 3, Path("adapters/0007"), "test")
    assert moved.rank_map.ranks == OTHER.ranks
    assert JOB.rank_map == CANDIDATE.rank_map, "the job itself stays as it was"


def test_death_says_what_happened_in_words() -> None:
    assert str(Died()) == "its process died"


def test_death_survives_the_way_between_processes() -> None:
    assert pickle.loads(pickle.dumps(Died())) == Died()
