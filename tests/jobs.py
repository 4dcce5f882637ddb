"""Jobs without the ceremony."""

from __future__ import annotations

from rank_search.core.candidate import Candidate
from rank_search.core.job import Job
from rank_search.core.ranks import RankMap


def job_for(
    rank_map: RankMap, seed: int, data_seed: int, number: int = 0, *, settings=None, recipe="scratch", **options
) -> Job:
    """A job that trains a map."""
    return Job(Candidate(rank_map, settings or {}, recipe), seed, data_seed, number, **options)
