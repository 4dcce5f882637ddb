"""From trials to maps: what is known of each map once all its trainings are taken together.

The scores of the trainings are taken as y = μ_map + β_round + ε: β is what an order of batches adds to the score of
every map that is trained on it, ε the noise of a single training. Maps are compared on the batches of round 0, which
all of them have seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rank_search.analysis.trials import complete, in_space
from rank_search.search.table import trials_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd
    from optuna import Study

    from rank_search.search.record import StudyRecord
    from rank_search.search.storage import StudyFolder

    Values = Callable[[int], Sequence[float]]  # trial number → its score for each example; empty if not on record

_DRAWS = 2000
_CONTENDERS = 200  # maps nearest to the front, whose place on it is drawn; all others have none


@dataclass(frozen=True)
class Levels:
    """Means of maps over their trainings, on the level of round 0.

    Attributes:
        mean: map → μ.
        se: map → standard error of μ over trainings; NaN where no noise can be told.
        sigma: standard deviation of ε; NaN without repeats.
    """

    mean: Mapping[str, float]
    se: Mapping[str, float]
    sigma: float


def maps_table(trials: pd.DataFrame, values: Values = lambda _number: ()) -> pd.DataFrame:
    """The maps of the space that were trained, in order of their first training.

    Columns are those of the trials, of the first training, but for: ``score``, the mean over trainings, on the level
    of the first; ``seeds``, how many there are; ``trials``, their numbers; ``se_examples`` over examples, ``se_seeds``
    over trainings, and ``score_se`` over both; ``seconds`` of all; ``front_probability``.

    Args:
        trials: a study's table of trials; baselines outside the space are left out.
        values: what each trial scored for each example.
    """
    rows = in_space(complete(trials))
    names = _names(rows)
    rows = rows.assign(name=names)
    levels = level(rows)
    grouped = rows.groupby("name", sort=False)
    maps = rows.drop_duplicates("name").set_index("name", drop=False)
    se_examples = maps["score_se"].astype(float)
    se_seeds = maps["name"].map(levels.se).astype(float)
    maps = maps.assign(
        score=maps["name"].map(levels.mean).astype(float),
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
    if not rows["round"].any():
        return rows[["score", "trainable_parameters"]].to_numpy(dtype=float)
    named = rows.assign(name=_names(rows))
    first = named.drop_duplicates("name")
    scores = first["name"].map(level(named).mean)
    return np.column_stack([scores.astype(float), first["trainable_parameters"].astype(float)])


def _names(rows: pd.DataFrame) -> list[str]:
    """What tells maps apart: their ranks, and the settings that were searched beside them."""
    return [f"{key} {sorted(settings.items())}" for key, settings in zip(rows["key"], rows["settings"], strict=True)]


def level(rows: pd.DataFrame) -> Levels:
    """Fits map and round effects by least squares, and pools the noise of single trainings.

    Only maps with repeats tell of rounds and noise; a map with one training is its score, with the pooled noise.

    Args:
        rows: trainings, with ``name``, ``round`` and ``score``.
    """
    mean: dict[str, float] = dict(zip(rows["name"], rows["score"], strict=True))
    repeated = rows[rows.groupby("name")["score"].transform("size") > 1]
    if repeated.empty:
        return Levels(mean, dict.fromkeys(mean, math.nan), math.nan)
    names, rounds = list(dict.fromkeys(repeated["name"])), sorted({*repeated["round"]} - {0})
    of_map = [[name == other for other in names] for name in repeated["name"]]
    of_round = [[number == other for other in rounds] for number in repeated["round"]]
    design = np.hstack([of_map, of_round]).astype(float)
    scores = repeated["score"].to_numpy(dtype=float)
    effects, _, rank, _ = np.linalg.lstsq(design, scores, rcond=None)
    freedom = len(scores) - int(rank)
    residuals = scores - design @ effects
    sigma = math.sqrt(float(residuals @ residuals) / freedom) if freedom else math.nan
    spread = np.sqrt(np.diag(np.linalg.pinv(design.T @ design)))
    found = dict(zip(names, effects[: len(names)], strict=True))
    errors = dict(zip(names, sigma * spread[: len(names)], strict=True))
    return Levels({**mean, **found}, {name: errors.get(name, sigma) for name in mean}, sigma)


def front_probability(maps: pd.DataFrame, values: Values) -> np.ndarray:
    """How likely each map stands on the front, were seeds and examples drawn anew.

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
        of_trials = [np.asarray(of, dtype=float) for number in numbers if len(of := values(number))]
        if of_trials:
            mean = np.mean(of_trials, axis=0)
            count = len(mean)
            if count not in weights:
                weights[count] = draw.multinomial(count, np.full(count, 1 / count), size=_DRAWS) / count
            scores[place] += weights[count] @ (mean - mean.mean())
        else:
            scores[place] += draw.normal(size=_DRAWS) * (se if math.isfinite(se) else 0.0)
    found[near] = _on_front(scores, rows["trainable_parameters"].to_numpy(dtype=float)).mean(axis=1)
    return found


def _nearest(maps: pd.DataFrame) -> np.ndarray:
    """Positions of the maps that are least below the front at their price."""
    ordered = maps.reset_index(drop=True).sort_values("trainable_parameters")
    below = ordered["score"].cummax() - ordered["score"]
    return np.sort(below.sort_values(kind="stable").index.to_numpy()[:_CONTENDERS])


def _on_front(scores: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """Whether each map stands on the front of each draw.

    Args:
        scores: ``[maps, draws]``.
        parameters: ``[maps]``.
    """
    prices, group = np.unique(parameters, return_inverse=True)
    best = np.full((len(prices), scores.shape[1]), -np.inf)
    np.maximum.at(best, group, scores)
    cheaper = np.vstack([np.full(scores.shape[1], -np.inf), np.maximum.accumulate(best, axis=0)[:-1]])
    return (scores >= best[group]) & (scores > cheaper[group])


def study_maps(study: Study, record: StudyRecord, folder: StudyFolder) -> pd.DataFrame:
    """`maps_table` of a study, with the per-example values that its folder holds."""
    metric = record.config["task"]["metric"]

    def values(number: int) -> Sequence[float]:
        found: Sequence[float] = folder.read_result(number).get("values", {}).get(metric, ())
        return found

    return maps_table(trials_table(study, record), values)


def probabilities(maps: pd.DataFrame) -> dict[int, float]:
    """Number of each training → how likely its map stands on the front."""
    return {
        number: float(probability)
        for numbers, probability in zip(maps["trials"], maps["front_probability"], strict=True)
        for number in numbers
    }
