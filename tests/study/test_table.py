"""The table of trials: a row for each, with its columns typed whatever the trials lack."""

from datetime import UTC, datetime

import pandas as pd
from optuna.trial import TrialState

from rank_search.core.candidate import Candidate
from rank_search.core.ranks import RankMap
from rank_search.core.rivals import EVA, SVD
from rank_search.study.record import TrialAttributes, TrialRecord
from rank_search.study.table import COLUMNS, trial_row, trials_table
from tests.bench import SPACE

MAP = SPACE.rank_map({"layer.0": 3, "layer.1": 0, "layer.2": 1, "layer.3": 2})
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
COMPLETE = TrialRecord(
    number=0,
    state=TrialState.COMPLETE,
    proposal={},
    candidate=Candidate(MAP, {"alpha": 8.0}),
    attributes=TrialAttributes(batch_order=2, seed=2**32 - 1, seconds=1.5, score_se=0.1),
    score=0.5,
    finished=MOMENT,
)
FAILED = TrialRecord(
    number=1,
    state=TrialState.FAIL,
    proposal={},
    candidate=Candidate(MAP),
    attributes=TrialAttributes(failure="not finite", reason="the loss is nan at step 3"),
)
UNDRAWN = TrialRecord(number=2, state=TrialState.RUNNING, proposal={}, candidate=None)


def rival(kind, recipe: str, **attributes) -> TrialRecord:
    requested = SPACE.uniform(2)
    kept = TrialAttributes(kind=kind, recipe=recipe, requested_ranks=requested.ranks, **attributes)
    return TrialRecord(3, TrialState.COMPLETE, {}, Candidate(requested, {}, recipe), kept, 0.6)


def test_complete_trial_has_all_that_is_kept_of_it() -> None:
    assert trial_row(COMPLETE, SPACE) == {
        "number": 0,
        "state": "COMPLETE",
        "kind": "search",
        "in_space": True,
        "label": "trial 0",
        "recipe": "scratch",
        "budget": None,
        "energy": None,
        "source": None,
        "batch_order": 2,
        "score": 0.5,
        "score_se": 0.1,
        "trainable_parameters": 4 * 20 + 1 * 22 + 2 * 23,
        "ranks": {"layer.0.w": 4, "layer.1.w": 0, "layer.2.w": 1, "layer.3.w": 2},
        "requested_ranks": {"layer.0.w": 4, "layer.1.w": 0, "layer.2.w": 1, "layer.3.w": 2},
        "key": MAP.key,
        "candidate": "56a82c336ff18bed-alpha=8.0",
        "settings": {"alpha": 8.0},
        "seed": 2**32 - 1,
        "seconds": 1.5,
        "finished": MOMENT,
        "failure": None,
        "reason": None,
    }


def test_ranks_that_a_recipe_set_count_and_those_it_was_asked_for_are_beside_them() -> None:
    redistributed = {**SPACE.uniform(2).ranks, "layer.0.w": 3, "layer.3.w": 1}
    row = trial_row(rival(EVA, "eva", ranks=redistributed), SPACE)
    assert row["ranks"] == redistributed
    assert set(row["requested_ranks"].values()) == {2}
    assert row["key"] == RankMap(redistributed).key
    assert row["trainable_parameters"] == 3 * 20 + 2 * 21 + 2 * 22 + 1 * 23
    assert (row["in_space"], row["label"]) == (False, "EVA from rank 2")


def test_truncations_have_their_source_with_budget_or_energy() -> None:
    by_size, by_energy = rival(SVD, "truncate", source=7, budget=40), rival(SVD, "truncate", source=7, energy=0.9)
    table = trials_table([by_size, by_energy], SPACE)
    assert table["source"].tolist() == [7, 7]
    assert table["budget"].tolist() == [40, pd.NA]
    assert table["energy"].dropna().tolist() == [0.9]


def test_failed_trial_says_why_and_has_no_score() -> None:
    (row,) = trials_table([FAILED], SPACE).to_dict("records")
    assert (row["state"], row["failure"], row["reason"]) == ("FAIL", "not finite", "the loss is nan at step 3")
    assert pd.isna(row["score"])
    assert row["trainable_parameters"] == SPACE.parameters(MAP)


def test_trial_that_is_drawn_in_part_has_no_map() -> None:
    row = trial_row(UNDRAWN, SPACE)
    assert [row[name] for name in ("ranks", "requested_ranks", "key", "trainable_parameters")] == [None] * 4
    assert row["settings"] == {}


def test_columns_and_their_types_are_the_same_whatever_the_trials_lack() -> None:
    tables = [trials_table(trials, SPACE) for trials in ([], [UNDRAWN], [COMPLETE, FAILED, UNDRAWN])]
    for table in tables:
        assert list(table.columns) == list(COLUMNS) == list(trial_row(COMPLETE, SPACE))
        types = table.dtypes.astype(str)
        assert {types[name] for name in ("score", "score_se", "seconds", "energy")} == {"float64"}
        assert {types[name] for name in ("trainable_parameters", "seed", "budget", "source")} == {"Int64"}
        assert types["in_space"] == "bool"
    assert [len(table) for table in tables] == [0, 1, 3]
    assert tables[-1]["number"].tolist() == [0, 1, 2]
    assert tables[-1]["seed"][0] == 2**32 - 1, "a seed that NaN beside it does not round"
