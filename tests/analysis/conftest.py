"""Tables of trials and of maps made by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rank_search.analysis.evidence import Evidence, trainings_of
from rank_search.analysis.maps import maps_table
from rank_search.analysis.scores import ExampleScores
from rank_search.core.choice import Margin
from rank_search.study.table import COLUMNS

RECIPES = {"baseline:svd": "truncate", "baseline:eva": "eva", "baseline:adalora": "adalora"}


def table(*points, kinds=None, states=None, se=0.01) -> pd.DataFrame:
    """Trials with these (score, parameters), in order; uniform maps have rank parameters / 10."""
    kinds = kinds or ["search"] * len(points)
    states = states or ["COMPLETE"] * len(points)
    rows = [
        {
            "number": number,
            "state": state,
            "kind": kind,
            "in_space": kind not in {"baseline:svd", "baseline:eva", "baseline:adalora"},
            "label": f"trial {number}",
            "batch_order": 0,
            "score": score if state == "COMPLETE" else None,
            "score_se": se,
            "trainable_parameters": parameters,
            "ranks": {"w": parameters // 10},
            "requested_ranks": {"w": parameters // 10},
            "recipe": RECIPES.get(kind, "scratch"),
            "key": str(number),
            "candidate": str(number),
            "settings": {},
            "seed": number,
            "seconds": 1.0,
            "finished": None,
            "reason": None,
        }
        for number, ((score, parameters), kind, state) in enumerate(zip(points, kinds, states, strict=True))
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(
        {"score": float, "score_se": float, "trainable_parameters": "Int64", "source": "Int64", "in_space": bool}
    )


def maps(*points, **kwargs) -> pd.DataFrame:
    """The maps of such trials, each trained once."""
    return maps_table(table(*points, **kwargs))


def example_scores(trials: pd.DataFrame, noise: float = 0.0, seed: int = 0, examples: int = 400) -> ExampleScores:
    """Scores by example whose means are those of the table.

    Examples differ by far more than maps do, but alike for all maps; ``noise`` is what they differ by beside that.
    """
    draw = np.random.default_rng(seed)
    easy = draw.normal(0, 0.3, examples)
    values = {}
    for number, score in zip(trials["number"], trials["score"].fillna(0.0), strict=True):
        own = draw.normal(0, noise, examples) if noise else np.zeros(examples)
        scores = score + easy - easy.mean() + own - own.mean()
        values[number] = scores.tolist()
    return ExampleScores(trainings_of(trials, maps_table(trials)), values.__getitem__)


def evidence(trials: pd.DataFrame, margin: str = "10%", *, noise: float = 0.0, selection: bool = True) -> Evidence:
    """The evidence of such a table; without ``selection`` its examples of the search are tested in halves."""
    selected = example_scores(trials, noise, seed=1) if selection else None
    return Evidence(trials, maps_table(trials), example_scores(trials, noise), selected, Margin.parse(margin))


UNIFORM, SVD = "baseline:uniform", "baseline:svd"
# With a margin of 0.015 the default rule chooses trial 4; its rivals are 2 (uniform), 7 (SVD) and 3 (the best uniform).
TRIALS = table(
    *((0.50, 0), (0.60, 10), (0.70, 20), (0.72, 40), (0.71, 25), (0.69, 5), (0.66, 24), (0.67, 22), (0.705, 30)),
    kinds=[UNIFORM] * 4 + ["search"] * 2 + [SVD] * 3,
)
