"""Rows of the table of trials that have a score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd


@dataclass(frozen=True)
class ScoredTrial:
    """One complete trial.

    Attributes:
        number: its number in the study.
        kind: ``search``, or the baseline it is.
        score: mean of the metric on validation.
        score_se: standard error of the score over examples.
        trainable_parameters: of its adapters.
        ranks: module → rank, zeros included.
        settings: what was searched beside the ranks; empty where nothing was.
        seconds: training and evaluation.
    """

    number: int
    kind: str
    score: float
    score_se: float
    trainable_parameters: int
    ranks: Mapping[str, int]
    settings: Mapping[str, float]
    seconds: float

    @property
    def top_rank(self) -> int:
        """The highest rank of the map; for a uniform map, its rank."""
        return max(self.ranks.values())


def complete(trials: pd.DataFrame) -> pd.DataFrame:
    """The rows of trials that have a score."""
    return trials[trials["state"] == "COMPLETE"]


def scored(trials: pd.DataFrame) -> dict[int, ScoredTrial]:
    """Trial number → trial, for the complete ones."""
    columns = list(ScoredTrial.__dataclass_fields__)
    records: list[dict[Any, Any]] = complete(trials)[columns].to_dict(orient="records")
    return {record["number"]: ScoredTrial(**record) for record in records}
