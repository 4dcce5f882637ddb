"""A study as a table, one row a trial: what analysis and report work on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rank_search.core.space import Space
    from rank_search.study.record import TrialRecord

_FLOATS = ("score", "score_se", "seconds", "energy")
_INTEGERS = ("trainable_parameters", "seed", "budget", "source")
COLUMNS = (
    "number",
    "state",
    "kind",
    "in_space",
    "label",
    "recipe",
    "budget",
    "energy",
    "source",
    "batch_order",
    "score",
    "score_se",
    "trainable_parameters",
    "ranks",
    "requested_ranks",
    "key",
    "candidate",
    "settings",
    "seed",
    "seconds",
    "finished",
    "failure",
    "reason",
)


def trials_table(trials: Iterable[TrialRecord], space: Space) -> pd.DataFrame:
    """Trials in order of their number.

    Columns: ``number``; ``state`` (Optuna's name of it); ``kind``, why it was trained; ``in_space``, False for the
    rivals outside the space; ``label`` in words; ``recipe``, ``source``, and of truncations ``budget`` or ``energy``
    (`rank_search.core.rivals.Rival`); ``batch_order``, 0 for a map's first training, then the round of repeats;
    ``score`` and its standard error ``score_se`` over examples; ``trainable_parameters``; ``ranks`` of the adapter
    (module → rank, zeros included) with the map's ``key``, and ``requested_ranks``, which differ where the recipe sets
    the ranks; ``candidate``, the key of what was trained; ``settings`` that it was trained at beside the ranks;
    ``seed``; ``seconds`` of training and evaluation, a pack's shared out; ``finished``, the moment; ``failure``, its
    kind, and ``reason`` of one that failed. What a trial does not have is NaN or None.
    """
    rows = [trial_row(trial, space) for trial in trials]
    types = dict.fromkeys(_FLOATS, "float64") | dict.fromkeys(_INTEGERS, "Int64") | {"in_space": "bool"}
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(types)


def trial_row(trial: TrialRecord, space: Space) -> dict[str, Any]:
    """A trial's row of the table."""
    rank_map, candidate, kept = trial.rank_map, trial.candidate, trial.attributes
    return {
        "number": trial.number,
        "state": trial.state.name,
        "kind": kept.kind,
        "in_space": trial.in_space,
        "label": trial.label,
        "recipe": kept.recipe,
        "budget": kept.budget,
        "energy": kept.energy,
        "source": kept.source,
        "batch_order": kept.batch_order,
        "score": trial.score,
        "score_se": kept.score_se,
        "trainable_parameters": space.parameters(rank_map) if rank_map else None,
        "ranks": dict(rank_map.ranks) if rank_map else None,
        "requested_ranks": dict(candidate.rank_map.ranks) if candidate else None,
        "key": rank_map.key if rank_map else None,
        "candidate": candidate.key if candidate else None,
        "settings": dict(candidate.settings) if candidate else {},
        "seed": kept.seed,
        "seconds": kept.seconds,
        "finished": trial.finished,
        "failure": kept.failure,
        "reason": kept.reason,
    }
