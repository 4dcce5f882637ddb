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

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from optuna.trial import FrozenTrial

ETA = 3
ATTRIBUTE = "rungs"  # of a trial: steps (as JSON's keys are text) → score there
_LOOKS = 2


@dataclass(frozen=True)
class Seen:
    """A map at a rung.

    Attributes:
        score: there.
        parameters: that it trains.
    """

    score: float
    parameters: int


def rung_steps(steps: int) -> list[int]:
    """After how many steps maps are looked at: a ninth and a third of all."""
    found = (round(steps / ETA**power) for power in range(_LOOKS, 0, -1))
    return sorted({rung for rung in found if 0 < rung < steps})


def earlier_at(rung: int, trials: Collection[FrozenTrial]) -> dict[int, float]:
    """Trial number → score of the trials that were looked at on a rung."""
    return {
        trial.number: trial.user_attrs[ATTRIBUTE][str(rung)]
        for trial in trials
        if str(rung) in trial.user_attrs.get(ATTRIBUTE, {})
    }


def going_on(at_rung: Mapping[int, Seen]) -> set[int]:
    """The best third (rounded up) of all maps that ever came to a rung: those that may still reach the front.

    They are ordered by non-domination rank on score against parameters; within the rank that goes on in part,
    by their contribution to the hypervolume. A score that is not finite never goes on.
    """
    numbers = [number for number, seen in at_rung.items() if math.isfinite(seen.score)]
    if not numbers:
        return set()
    values = np.array([[-at_rung[number].score, at_rung[number].parameters] for number in numbers])
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
        (of_rank,) = np.nonzero(ranks == rank)
        room = count - len(picked)
        if len(of_rank) > room:
            of_rank = of_rank[pareto.hypervolume_subset(values[of_rank], room, reference)]
        picked += [int(i) for i in of_rank]
        if len(picked) >= count:
            break
    return picked
