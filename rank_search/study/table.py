"""A study as a table, one row a trial: what analysis and report work on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from optuna.trial import TrialState

from rank_search.core.batch_order import ROUND
from rank_search.core.ranks import RankMap
from rank_search.search import early_stopping as rungs
from rank_search.search.nested import SCORE
from rank_search.search.rivals.rivals import NAME, RANKS
from rank_search.search.schedule import SEARCH
from rank_search.study.leases import LEASE, is_live

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

    from rank_search.core.space import Space
    from rank_search.study.metadata import StudyRecord

COLUMNS = (
    "number",
    "state",
    "kind",
    "baseline",
    "round",
    "score",
    "score_se",
    "trainable_parameters",
    "ranks",
    "key",
    "settings",
    "seed",
    "seconds",
    "nested_score",
    "rungs",
    "finished",
    "failure",
    "reason",
)


def trials_table(study: Study, record: StudyRecord) -> pd.DataFrame:
    """All trials in order of their number.

    Columns: ``number``; ``state`` (Optuna's name of it); ``kind``; ``baseline``, the name of one outside the space;
    ``round`` of repeats, 0 for a map's first training; ``score`` and its standard error ``score_se`` over examples;
    ``trainable_parameters``; ``ranks`` (module → rank, zeros included) with the map's ``key``; ``settings`` that
    were searched beside the ranks; ``seed``; ``seconds`` of training and evaluation, a pack's shared out;
    ``nested_score`` by truncating the super-adapter; ``rungs``, steps → score on the way; ``finished``, the moment;
    ``failure``, its kind, and ``reason`` of one that failed. What a trial does not have is NaN or None.
    """
    rows = [trial_row(trial, record.space) for trial in study.get_trials(deepcopy=False)]
    numbers = dict.fromkeys(("score", "score_se", "seconds", "nested_score"), "float64")
    counts = dict.fromkeys(("trainable_parameters", "seed"), "Int64")
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({**numbers, **counts})


def trial_row(trial: FrozenTrial, space: Space) -> dict[str, Any]:
    """A trial's row of the table."""
    complete = trial.state == TrialState.COMPLETE
    proposed = trial.params.keys() == space.dimensions.keys() | space.joint.keys()
    rank_map = space.rank_map(trial.params) if proposed else None
    attributes = trial.user_attrs
    if NAME in attributes:
        rank_map = RankMap(attributes[RANKS])
    return {
        "number": trial.number,
        "state": trial.state.name,
        "kind": attributes.get("kind", SEARCH),
        "baseline": attributes.get(NAME),
        "round": attributes.get(ROUND, 0),
        "score": trial.values[0] if complete else None,
        "score_se": attributes.get("score_se"),
        "trainable_parameters": space.parameters(rank_map) if rank_map else None,
        "ranks": dict(rank_map.ranks) if rank_map else None,
        "key": rank_map.key if rank_map else None,
        "settings": space.settings(trial.params) if proposed else {},
        "seed": attributes.get("seed"),
        "seconds": attributes.get("seconds"),
        "nested_score": attributes.get(SCORE),
        "rungs": attributes.get(rungs.ATTRIBUTE, {}),
        "finished": trial.datetime_complete,
        "failure": attributes.get("failure"),
        "reason": attributes.get("reason"),
    }


def is_running(study: Study) -> bool:
    """Whether some living driver is at a trial, or at another part of the study, now."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    parts = [lease for name, lease in study.user_attrs.items() if name.startswith(f"{LEASE}:")]
    return any(is_live(lease) for lease in [*parts, *(trial.user_attrs.get(LEASE) for trial in running)])
