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
            "in_space": kind not in {"baseline:svd", "baseline:eva", "baseline:adalora"},
            "label": f"trial {number}",
            "batch_order": 0,
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
        {"score": float, "score_se": float, "trainable_parameters": "Int64", "in_space": bool}
    )


def maps(*points, **kwargs) -> pd.DataFrame:
    """The maps of such trials, each trained once."""
    return maps_table(table(*points, **kwargs))


UNIFORM, SVD = "baseline:uniform", "baseline:svd"
# The default rule chooses trial 4, whose rivals are 2 (uniform), 7 (SVD) and 3 (the best uniform map).
TRIALS = table(
    *((0.50, 0), (0.60, 10), (0.70, 20), (0.72, 40), (0.71, 25), (0.69, 5), (0.66, 24), (0.67, 22), (0.73, 30)),
    kinds=[UNIFORM] * 4 + ["search"] * 2 + [SVD] * 3,
)
