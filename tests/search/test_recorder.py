"""What becomes of a trial: on disk first, then in the study, once; and a kill in between changes nothing."""

from __future__ import annotations

import errno
import math
from dataclasses import dataclass, replace

import optuna
import pytest
from optuna.trial import Trial, TrialState
from sqlalchemy.exc import OperationalError

from rank_search.core.candidate import Candidate
from rank_search.core.errors import OutOfService, TrainingFailed
from rank_search.core.evaluation import Evaluation
from rank_search.core.job import FineTuned, Job
from rank_search.core.ranks import RankMap
from rank_search.core.rivals import ADALORA, EVA, SEARCH, UNIFORM, Rival
from rank_search.core.space import Space
from rank_search.search.jobs import job_of
from rank_search.search.recorder import TrialRecorder
from rank_search.study.folder import StudyFolder
from rank_search.study.handle import Study
from rank_search.study.leases import Leases
from rank_search.study.record import TrialAttributes, TrialRecord, TrialRequest
from tests.bench import SPACE, Bench, Landscape, metadata, recorded
from tests.search.test_loop import Killed

FIRST, *_, LAST = SPACE.shapes
PLAIN = TrialRequest(SPACE.candidate(SPACE.proposal(SPACE.uniform(2))), SEARCH)
RIVALS = {
    recipe: TrialRequest(Candidate(SPACE.uniform(2), recipe=recipe), kind, Rival(kind, recipe, rank=2))
    for recipe, kind in (("eva", EVA), ("adalora", ADALORA))
}


@dataclass
class Started:
    """A trial that was just trained."""

    study: Study
    trial: Trial
    job: Job
    outcome: FineTuned

    @property
    def record(self) -> TrialRecord:
        return self.study.read_now(self.trial)

    def recorded(self, outcome=None, recorder: TrialRecorder | None = None) -> bool:
        return (recorder or TrialRecorder(self.study)).record(self.trial, self.job, outcome or self.outcome)


@pytest.fixture
def study(bench) -> Study:
    """A study in memory, whose files are on disk."""
    return Study(optuna.create_study(directions=["maximize", "minimize"]), metadata(), bench.folder)


def started(study: Study, request: TrialRequest = PLAIN) -> Started:
    study.enqueue(request)
    trial = study.optuna_study.ask()
    if request.rival is None:
        for name in SPACE.dimensions:
            trial.suggest_int(name, 0, 3)
    job = job_of(study.read_now(trial), 0, study)
    return Started(study, trial, job, Landscape().train_one(job))


def failing(error: BaseException):
    def fail(*_arguments, **_options):
        raise error

    return fail


def test_a_finished_training_is_kept_whole(study) -> None:
    begun = started(study)
    assert begun.recorded()
    record, attributes = begun.record, begun.record.attributes
    assert record.state == TrialState.COMPLETE
    assert record.score == begun.outcome.evaluation.score
    assert study.optuna_study.trials[0].values[1] == SPACE.parameters(SPACE.uniform(2))
    assert (attributes.seed, attributes.seconds) == (begun.job.seed, 0.01)
    assert attributes.metrics == {"ndcg@10": record.score}
    assert attributes.score_se == begun.outcome.evaluation.standard_error
    result = study.folder.read_result(0)
    assert result["values"] == begun.outcome.evaluation.values
    assert result["losses"] == [1.0, 0.5]
    assert result["adapter"].keys() == {"adapter_model.safetensors"}
    study.folder.check_adapter(0)


def test_examples_for_the_choice_are_kept_apart_from_those_of_the_score(study) -> None:
    begun = started(study)
    evaluation = Evaluation("ndcg@10", {"ndcg@10": [0.2, 0.4, 0.9, 0.9]}, selection=2)
    assert begun.recorded(replace(begun.outcome, evaluation=evaluation))
    assert begun.record.score == pytest.approx(0.3)
    assert list(study.example_scores(0)) == [0.2, 0.4]
    assert list(study.selection_scores(0)) == [0.9, 0.9]


def test_an_untrained_model_has_no_adapter(study) -> None:
    begun = started(study, TrialRequest(SPACE.candidate(SPACE.proposal(SPACE.uniform(0))), UNIFORM))
    assert begun.recorded()
    assert begun.record.is_complete
    assert study.folder.adapters() == {}
    assert study.folder.read_result(0)["adapter"] == {}


@pytest.mark.parametrize("recipe", RIVALS)
def test_ranks_that_a_recipe_sets_are_kept_and_paid_for_beside_those_that_were_requested(study, recipe) -> None:
    begun = started(study, RIVALS[recipe])
    assert begun.recorded()
    attributes = begun.record.attributes
    assert attributes.requested_ranks == SPACE.uniform(2).ranks
    assert attributes.ranks == {**SPACE.uniform(2).ranks, FIRST: 1, LAST: 3}
    assert study.optuna_study.trials[0].values[1] == SPACE.parameters(RankMap(attributes.ranks))


def test_ranks_of_other_recipes_are_not_written_twice(study) -> None:
    begun = started(study)
    assert begun.recorded()
    assert begun.record.attributes.ranks is None
    assert begun.record.rank_map == SPACE.uniform(2)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_a_failure_of_which_nothing_is_saved(study, score) -> None:
    begun = started(study)
    assert begun.recorded(replace(begun.outcome, evaluation=Evaluation("ndcg@10", {"ndcg@10": [score, score]})))
    record = begun.record
    assert record.state == TrialState.FAIL
    assert record.attributes.failure == "not finite"
    assert record.attributes.reason == f"the score is {score} after training; lower the learning rate"
    assert study.folder.adapters() == {}
    assert study.folder.read_result(0) == {}


def test_a_failure_is_kept_with_its_kind_and_reason(study) -> None:
    begun = started(study)
    assert begun.recorded(TrainingFailed("no memory", "out of memory"))
    record = begun.record
    assert record.state == TrialState.FAIL
    assert (record.attributes.failure, record.attributes.reason) == ("out of memory", "no memory")


def test_an_adapter_that_can_not_be_saved_fails_its_trial_alone(study) -> None:
    begun = started(study)
    assert begun.recorded(replace(begun.outcome, save_adapter=failing(ValueError("no such layer"))))
    assert begun.record.attributes.reason == "ValueError: no such layer"


def test_failures_in_a_row_are_counted_until_one_succeeds(study) -> None:
    recorder = TrialRecorder(study)
    for reason in ("one", "two"):
        started(study).recorded(TrainingFailed(reason), recorder)
    assert recorder.failures == [(0, "one"), (1, "two")]
    started(study, RIVALS["eva"]).recorded(TrainingFailed("no such layer"), recorder)
    assert len(recorder.failures) == 2  # the search can do without a rival
    started(study).recorded(recorder=recorder)
    assert recorder.failures == []


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), OutOfService),
        (OperationalError("UPDATE", {}, Exception("server closed the connection")), OperationalError),
    ],
    ids=["disk full", "storage away"],
)
def test_what_is_no_fault_of_the_trial_leaves_it_running(study, error, raised) -> None:
    begun, recorder = started(study), TrialRecorder(study)
    with pytest.raises(raised):
        begun.recorded(replace(begun.outcome, save_adapter=failing(error)), recorder)
    assert begun.record.state == TrialState.RUNNING
    assert begun.record.attributes.reason is None
    assert recorder.failures == []
    assert begun.recorded(recorder=recorder)  # when there is room again
    assert begun.record.is_complete


@pytest.mark.parametrize("failed", [False, True])
def test_what_another_driver_recorded_stays_as_it_is(study, failed) -> None:
    begun = started(study)
    recorded(study, 0, 0.75)
    assert not begun.recorded(TrainingFailed("late") if failed else None)
    assert (begun.record.score, begun.record.attributes) == (0.75, TrialAttributes(kind=SEARCH, seconds=0.01))
    assert study.folder.adapters() == {}


@pytest.mark.parametrize("error", [None, ValueError("late")])
def test_what_another_driver_recorded_meanwhile_stays_as_it_is(study, error) -> None:
    begun, recorder = started(study), TrialRecorder(study)

    def save(_folder) -> None:
        recorded(study, 0, 0.75)
        if error is not None:
            raise error

    assert not begun.recorded(replace(begun.outcome, save_adapter=save), recorder)
    assert (begun.record.state, begun.record.score) == (TrialState.COMPLETE, 0.75)
    assert (begun.record.attributes.reason, recorder.failures) == (None, [])


# A study of the untrained model, uniform rank 2, EVA from rank 2 and AdaLoRA from rank 2.
REDISTRIBUTED = {"eva": 2, "adalora": 3}  # numbers of their trials
SMALL = Space(SPACE.shapes, SPACE.dimensions, ladder=(0, 2))
# What happens last before a kill, and whether it is about this trial.
LAST_ACTS = {
    "lease written": (Leases, "acquire", lambda number, _leases, trial: trial.number == number),
    "trained": (Landscape, "train_one", lambda number, _executor, job: job.number == number),
    "adapter saved": (StudyFolder, "adapter_digests", lambda number, _folder, trial: trial == number),
    "example scores written": (StudyFolder, "write_result", lambda number, _folder, trial, _result: trial == number),
    "ranks written": (
        Trial,
        "set_user_attr",
        lambda number, trial, name, _value: (trial.number, name) == (number, "ranks"),
    ),
}


def search(bench: Bench, executor: Landscape) -> list[optuna.trial.FrozenTrial]:
    baselines = ["eva", "adalora"]
    return bench.search(2, executor, SMALL, baselines=baselines, sole_driver=True, steps=1).trials


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> list[optuna.trial.FrozenTrial]:
    return search(Bench(StudyFolder(tmp_path_factory.mktemp("unbroken"))), Landscape(noise=0.02))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", REDISTRIBUTED)
def test_kills_before_the_end_is_recorded_change_nothing(bench, unbroken, recipe) -> None:
    """The resumed run asks for the ranks that were requested, not for those that came out before the kill."""
    number = REDISTRIBUTED[recipe]
    for last_act in LAST_ACTS.values():
        with pytest.MonkeyPatch.context() as patched:
            kill_after(patched, *last_act, number)
            with pytest.raises(Killed):
                search(bench, Landscape(noise=0.02))
        left = bench.study().trials[number]
        assert left.state == TrialState.RUNNING
        assert left.user_attrs["requested_ranks"] == SPACE.uniform(2).ranks
    assert left.user_attrs["ranks"] == {**SPACE.uniform(2).ranks, FIRST: 1, LAST: 3}
    executor = Landscape(noise=0.02)
    resumed = search(bench, executor)
    (job,) = (job for job in executor.jobs if job.number == number)
    assert job.candidate == Candidate(SPACE.uniform(2), recipe=recipe)
    for one, other in zip(resumed, unbroken, strict=True):
        assert (one.state, one.values, one.params) == (other.state, other.values, other.params)
        for attribute in ("requested_ranks", "ranks", "recipe", "seed", "metrics"):
            assert one.user_attrs.get(attribute) == other.user_attrs.get(attribute)


def kill_after(patched: pytest.MonkeyPatch, owner: type, name: str, is_it, number: int) -> None:
    """Lets the process die when an act on a trial is done."""
    act = getattr(owner, name)

    def killed(*arguments, **options):
        found = act(*arguments, **options)
        if is_it(number, *arguments):
            raise Killed
        return found

    patched.setattr(owner, name, killed)
