"""Tables of trials and of maps made by hand."""

from __future__ import annotations

import pandas as pd

from rank_search.analysis.maps import maps_table
from rank_search.study.table import COLUMNS


def table(*points, kinds=None, states=None, se=0.01) -> pd.DataFrame:
    """Trials with these (score, parameters), in order; uniform maps have rank parameters / 10."""
    kinds = kinds or ["search"] * len(points)
    states = states or ["COMPLETE"] * len(points)
    rows = [
        {
            "number": number,
            "state": state,
            "kind": kind,
            "baseline": f"svd {number}" if kind == "baseline:svd" else None,
            "round": 0,
            "score": score if state == "COMPLETE" else None,
            "score_se": se,
            "trainable_parameters": parameters,
            "ranks": {"w": parameters // 10},
            "key": str(number),
            "settings": {},
            "seed": number,
            "seconds": 1.0,
            "finished": None,
            "reason": None,
        }
        for number, ((score, parameters), kind, state) in enumerate(zip(points, kinds, states, strict=True))
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(
        {"score": float, "score_se": float, "trainable_parameters": "Int64"}
    )


def maps(*points, **kwargs) -> pd.DataFrame:
    """The maps of such trials, each trained once."""
    return maps_table(table(*points, **kwargs))
