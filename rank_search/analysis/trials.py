"""Rows of the tables of trials and of maps that have a score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from rank_search.core.candidate import Candidate
from rank_search.core.ranks import RankMap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rank_search.core.candidate import Recipe


@dataclass(frozen=True)
class ScoredTrial:
    """One complete trial; or one map, under the number of its first training.

    Attributes:
        number: its number in the study.
        kind: why it was trained (`rank_search.core.rivals.Kind`).
        score: mean of the metric on validation.
        score_se: standard error of the score: of a trial over examples, of a map over examples and trainings.
        trainable_parameters: of its adapters.
        ranks: module → rank, zeros included.
        settings: what it was trained at beside the ranks; empty where the study file's own values hold.
        seconds: training and evaluation.
        seeds: trainings that the score is the mean of.
        front_probability: how likely the map stands on the front; NaN where it was not computed.
        requested_ranks: the ranks that were asked for, where the recipe sets others; None where they are the same.
        recipe: how its adapter comes about.
        source: number of the trial whose adapter is truncated, if one is.
    """

    number: int
    kind: str
    score: float
    score_se: float
    trainable_parameters: int
    ranks: Mapping[str, int]
    settings: Mapping[str, float]
    seconds: float
    seeds: int = 1
    front_probability: float = math.nan
    requested_ranks: Mapping[str, int] | None = None
    recipe: Recipe = "scratch"
    source: int | None = None

    @property
    def fresh(self) -> Candidate:
        """What was trained, to be trained again on fresh seeds, for the verdict."""
        return Candidate(RankMap(self.requested_ranks or self.ranks), self.settings, self.recipe, self.source)

    @property
    def top_rank(self) -> int:
        """The highest rank of the map; for a uniform map, its rank."""
        return max(self.ranks.values())


def complete(trials: pd.DataFrame) -> pd.DataFrame:
    """The rows of trials that have a score."""
    return trials[trials["state"] == "COMPLETE"]


def in_space(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials that trained a map of the space: all but the rivals outside it."""
    return trials[trials["in_space"]]


def scored(trials: pd.DataFrame) -> dict[int, ScoredTrial]:
    """Trial number → trial, for the complete ones."""
    columns = [name for name in ScoredTrial.__dataclass_fields__ if name in trials]
    records: list[dict[Any, Any]] = complete(trials)[columns].to_dict(orient="records")
    for record in records:
        record["source"] = None if pd.isna(record["source"]) else int(record["source"])
    return {record["number"]: ScoredTrial(**record) for record in records}
