"""From trials to maps: what is known of each map once all its trainings are taken together.

Their scores are means as on batch order 0; see `rank_search.core.batch_order`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from rank_search.analysis.trials import complete
from rank_search.core.batch_order import fit_map_means
from rank_search.core.pareto import front_membership

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

    from rank_search.study.handle import Study

    Values = Callable[[int], Sequence[float]]  # trial number → its score for each example; empty if not on record

_DRAWS = 2000
_CONTENDERS = 200  # maps nearest to the front, whose place on it is drawn; all others have none


def maps_table(trials: pd.DataFrame, values: Values = lambda _number: ()) -> pd.DataFrame:
    """The candidates that were trained, each a map with its recipe and settings, in order of their first training.

    Columns are those of the trials, of the first training, but for: ``score``, the mean over trainings, on the level
    of the first; ``seeds``, how many there are; ``trials``, their numbers; ``se_examples`` over examples, ``se_seeds``
    over trainings, and ``score_se`` over both; ``seconds`` of all; ``front_probability``.

    Args:
        trials: a study's table of trials.
        values: what each trial scored for each example.
    """
    rows = named(complete(trials))
    means = fit_map_means(rows)
    grouped = rows.groupby("name", sort=False)
    maps = rows.drop_duplicates("name").set_index("name", drop=False)
    se_examples = maps["score_se"].astype(float)
    se_seeds = maps["name"].map(means.se).astype(float)
    maps = maps.assign(
        score=maps["name"].map(means.mean).astype(float),
        seeds=grouped.size(),
        trials=grouped["number"].agg(list),
        seconds=grouped["seconds"].sum(),
        se_examples=se_examples,
        se_seeds=se_seeds,
        score_se=np.sqrt(se_examples**2 + se_seeds.fillna(0.0) ** 2),
    )
    return maps.assign(front_probability=front_probability(maps, values)).reset_index(drop=True).drop(columns="name")


def map_means(rows: pd.DataFrame) -> np.ndarray:
    """(score, parameters) of each map that these trainings are of, ``[maps, 2]``."""
    if not rows["batch_order"].any():
        return rows[["score", "trainable_parameters"]].to_numpy(dtype=float)
    trainings = named(rows)
    first = trainings.drop_duplicates("name")
    scores = first["name"].map(fit_map_means(trainings).mean)
    return np.column_stack([scores.astype(float), first["trainable_parameters"].astype(float)])


def named(rows: pd.DataFrame) -> pd.DataFrame:
    """Trainings with the ``name`` of what they trained."""
    return rows.assign(name=rows["candidate"])


def front_probability(maps: pd.DataFrame, values: Values) -> np.ndarray:
    """How likely each map stands on the front, if seeds and examples were drawn again.

    Examples are drawn with replacement, the same for all maps (the paired bootstrap), and each map's mean over
    trainings from a normal law of its standard error. Where a map's values are not on record its examples count as
    independent of the others', which makes the front look less certain than it is.

    Args:
        maps: with ``score``, ``se_examples``, ``se_seeds``, ``trainable_parameters`` and ``trials``.
        values: what each trial scored for each example.
    """
    found = np.zeros(len(maps))
    if maps.empty:
        return found
    near = _nearest(maps)
    rows = maps.iloc[near]
    draw = np.random.default_rng(0)
    scores = rows["score"].to_numpy(dtype=float)[:, None] + np.zeros(_DRAWS)
    scores += draw.normal(size=scores.shape) * rows["se_seeds"].fillna(0.0).to_numpy(dtype=float)[:, None]
    weights: dict[int, np.ndarray] = {}
    for place, (numbers, se) in enumerate(zip(rows["trials"], rows["se_examples"], strict=True)):
        per_trial = [np.asarray(kept, dtype=float) for number in numbers if len(kept := values(number))]
        if per_trial:
            mean = np.mean(per_trial, axis=0)
            count = len(mean)
            if count not in weights:
                weights[count] = draw.multinomial(count, np.full(count, 1 / count), size=_DRAWS) / count
            scores[place] += weights[count] @ (mean - mean.mean())
        else:
            scores[place] += draw.normal(size=_DRAWS) * (se if math.isfinite(se) else 0.0)
    found[near] = front_membership(scores, rows["trainable_parameters"].to_numpy(dtype=float)).mean(axis=1)
    return found


def _nearest(maps: pd.DataFrame) -> np.ndarray:
    """Positions of the maps that are least below the front at their cost."""
    ordered = maps.reset_index(drop=True).sort_values("trainable_parameters")
    below = ordered["score"].cummax() - ordered["score"]
    return np.sort(below.sort_values(kind="stable").index.to_numpy()[:_CONTENDERS])


def study_maps(study: Study) -> pd.DataFrame:
    """`maps_table` of a study, with the per-example scores that its folder holds."""
    return maps_table(study.table(), study.example_scores)


def probabilities(maps: pd.DataFrame) -> dict[int, float]:
    """Number of each training → how likely its map stands on the front."""
    return {
        number: float(probability)
        for numbers, probability in zip(maps["trials"], maps["front_probability"], strict=True)
        for number in numbers
    }
