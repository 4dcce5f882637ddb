"""The record of a trial: what is written is what is read."""

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from rank_search.core.candidate import Candidate
from rank_search.core.rivals import EVA, FAMILY, SVD, UNIFORM, Rival, truncated_to
from rank_search.study.record import TrialAttributes, TrialRecord, TrialRequest, keep, read_now
from tests.bench import SPACE

PROPOSALS = st.fixed_dictionaries({name: st.integers(0, 3) for name in SPACE.dimensions})


def asked(request: TrialRequest) -> optuna.trial.Trial:
    """A trial that was enqueued and asked for, as the queue does it."""
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.enqueue_trial(request.proposal(SPACE), user_attrs=request.attributes)
    return study.ask()


@given(PROPOSALS, st.sampled_from([UNIFORM, FAMILY]), st.integers(0, 3))
def test_request_in_the_space_comes_back(proposal, kind, batch_order) -> None:
    request = TrialRequest(SPACE.candidate(proposal), kind, None, batch_order)
    record = read_now(asked(request), SPACE)
    assert record.candidate == request.candidate
    assert record.attributes.kind == kind
    assert record.attributes.batch_order == batch_order
    assert record.in_space
    assert record.rival is None


@pytest.mark.parametrize(
    ("rival", "recipe", "source"),
    [
        (Rival(SVD, "scratch", rank=2), "scratch", None),
        (truncated_to(40), "truncate", 3),
        (Rival(SVD, "truncate", energy=0.9), "truncate", 3),
        (Rival(EVA, "eva", rank=2), "eva", None),
    ],
)
def test_rival_comes_back_with_its_identity(rival, recipe, source) -> None:
    candidate = Candidate(SPACE.uniform(2), {}, recipe, source)
    record = read_now(asked(TrialRequest(candidate, rival.kind, rival)), SPACE)
    assert record.rival == rival
    assert record.candidate == candidate
    assert not record.in_space
    assert record.label == rival.label


def test_ranks_that_come_out_are_kept_apart_from_those_asked_for() -> None:
    trial = asked(TrialRequest(Candidate(SPACE.uniform(2), recipe="eva"), EVA, Rival(EVA, "eva", rank=2)))
    redistributed = {name: 1 + i % 3 for i, name in enumerate(SPACE.shapes)}
    keep(trial, ranks=redistributed)
    record = read_now(trial, SPACE)
    assert record.rank_map.ranks == redistributed
    assert record.candidate.rank_map == SPACE.uniform(2)
    assert record.rival == Rival(EVA, "eva", rank=2)


def test_trial_whose_proposal_is_drawn_in_part_has_no_candidate() -> None:
    trial = optuna.create_study(directions=["maximize", "minimize"]).ask()
    trial.suggest_int(next(iter(SPACE.dimensions)), 0, 3)
    record = read_now(trial, SPACE)
    assert record.candidate is None
    assert record.rank_map is None
    assert record.state == TrialState.RUNNING


def test_only_fields_of_the_schema_are_written() -> None:
    trial = optuna.create_study().ask()
    with pytest.raises(KeyError, match="colour"):
        keep(trial, colour="red")
    keep(trial, **dict.fromkeys(("lease", "ranks", "seconds")))
    assert set(trial.user_attrs) <= set(TrialAttributes.model_fields)


def test_attributes_of_others_are_left_alone() -> None:
    """As optuna-dashboard's notes are."""
    trial = optuna.create_study().ask()
    trial.set_user_attr("note", "mine")
    assert TrialRecord.read(trial.study.trials[0], SPACE).attributes == TrialAttributes()
