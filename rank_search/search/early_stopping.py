"""Early stopping on two objectives: which maps go on from a rung.

Optuna's pruners refuse studies of several objectives. This is asynchronous successive halving (ASHA,
arXiv:1810.05934) in its stopping form, with the order of MO-ASHA (arXiv:2106.12639): non-domination first.
The second objective, the number of parameters, is known exactly from the start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rank_search.core import pareto
from rank_search.core.job import Rungs
from rank_search.core.rivals import UNIFORM

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from rank_search.core.space import Space
    from rank_search.study.record import TrialRecord

ETA = 3
_RUNGS = 2


@dataclass(frozen=True)
class RungResult:
    """A map at a rung.

    Attributes:
        score: there.
        parameters: that it trains.
    """

    score: float
    parameters: int


def rungs_for(numbers: Collection[int], steps: int, space: Space, trials: Callable[[], Sequence[TrialRecord]]) -> Rungs:
    """Where trials that train together are looked at, and which of them go on.

    Rivals and repeats always go on; of the others the best, among all that ever came to a rung.

    Args:
        numbers: of the trials.
        steps: of a training.
        space: what is searched.
        trials: the study's trials as they are when it is called.
    """

    def keep(rung: int, scores: Mapping[int, float]) -> set[int]:
        known = {trial.number: trial for trial in trials()}
        at_rung = scores_at(rung, known.values()) | dict(scores)
        results = {
            number: RungResult(score, space.parameters(candidate.rank_map))
            for number, score in at_rung.items()
            if known[number].in_space and (candidate := known[number].candidate) is not None
        }
        spared = {number for number in numbers if _is_spared(known[number])}
        return (going_on(results) | spared) & scores.keys()

    return Rungs(rung_steps(steps), keep)


def rung_steps(steps: int) -> list[int]:
    """After how many steps maps are looked at: a ninth and a third of all."""
    found = (round(steps / ETA**power) for power in range(_RUNGS, 0, -1))
    return sorted({rung for rung in found if 0 < rung < steps})


def scores_at(rung: int, trials: Collection[TrialRecord]) -> dict[int, float]:
    """Trial number → score of the trials that were looked at on a rung."""
    return {trial.number: trial.attributes.rungs[rung] for trial in trials if rung in trial.attributes.rungs}


def going_on(at_rung: Mapping[int, RungResult]) -> set[int]:
    """The best third (rounded up) of all maps that ever came to a rung: those that may still reach the front.

    They are ordered by non-domination rank on score against parameters; within the rank that goes on in part,
    by their contribution to the hypervolume. A score that is not finite never goes on.
    """
    numbers = [number for number, result in at_rung.items() if math.isfinite(result.score)]
    if not numbers:
        return set()
    values = pareto.minimised(
        [at_rung[number].score for number in numbers], [at_rung[number].parameters for number in numbers]
    )
    return {numbers[i] for i in best(values, math.ceil(len(numbers) / ETA))}


def best(values: np.ndarray, count: int) -> Sequence[int]:
    """Positions of the ``count`` best points by non-domination rank, ties by contribution to the hypervolume.

    Args:
        values: ``[points, 2]``, both to be minimised.
        count: how many to pick.
    """
    ranks = pareto.dominance_ranks(values)
    worst = values.max(axis=0)
    reference = worst + 0.1 * np.maximum(worst - values.min(axis=0), 1e-9)
    picked: list[int] = []
    for rank in range(int(ranks.max()) + 1):
        (members,) = np.nonzero(ranks == rank)
        room = count - len(picked)
        if len(members) > room:
            members = members[pareto.hypervolume_subset(values[members], room, reference)]
        picked += [int(i) for i in members]
        if len(picked) >= count:
            break
    return picked


def _is_spared(trial: TrialRecord) -> bool:
    return trial.attributes.kind == UNIFORM or not trial.in_space or bool(trial.attributes.batch_order)
