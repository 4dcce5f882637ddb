"""What a study would search and cost; the estimate on the real model is in tests/test_end_to_end.py."""

from itertools import count
from statistics import fmean
from types import SimpleNamespace

import pytest

from rank_search.analysis.power import power
from rank_search.app import plan
from rank_search.app.plan import Estimate, estimate_study
from rank_search.core.seeds import batch_seed
from rank_search.training.cost import step_flops
from tests.bench import SPACE, study_config


def estimate(**changes) -> Estimate:
    fields = {
        "study": "small",
        "space": SPACE,
        "head_parameters": 0,
        "cut": {},
        "notes": (),
        "trials": 10,
        "baselines": (2, 3),
        "rate_trainings": 4,
        "verdict_trainings": 8,
        "step_flops": 1e9,
        "flops_rate": 1e9,
        "step_seconds": 1.0,
        "evaluation_seconds": 5.0,
        "trial_seconds": 30.0,
        "power": power(500, 500, 3, None),
    }
    return Estimate(**{**fields, **changes})


def test_all_of_it_is_trainings_and_evaluations_one_after_another() -> None:
    assert estimate().seconds == (10 + 4 + 2 + 8) * 30 + 3 * 5
    assert estimate(baselines=(0, 0), rate_trainings=0, verdict_trainings=0).seconds == 10 * 30


@pytest.fixture
def planned(small_task, small_space, monkeypatch):
    """Estimates of studies of the small task; steps take what `speeds` says, and an evaluation 3 s."""
    timed = []
    speeds = SimpleNamespace(flops=(8.0, 6.0, 40.0), seconds=(2.0, 3.0, 4.0))  # 4, 2 and 10 a second
    clock = count(100, 3)

    def time_steps(task, jobs, config, steps):
        timed.append((jobs, steps))
        return speeds

    monkeypatch.setattr(plan, "load_study_task", lambda _config: (small_task, small_space))
    monkeypatch.setattr(plan, "time_steps", time_steps)
    monkeypatch.setattr(plan, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    return SimpleNamespace(estimate=lambda **changes: estimate_study(study_config(**changes)), timed=timed)


def test_power_is_as_the_study_itself_spreads_and_not_as_another_of_its_name(planned, bench, monkeypatch) -> None:
    bench.search(6)
    monkeypatch.setattr(plan.StudyFolder, "named", lambda _name: bench.folder)
    assert planned.estimate().power.spread.pairs > 0
    assert planned.estimate(training={"steps": 99}).power.spread.pairs == 0
    (bench.folder.path / "study.db").write_text("no database")
    assert planned.estimate().power.spread.pairs == 0


def test_the_largest_map_is_timed_alone(planned, small_space) -> None:
    planned.estimate(seed=5)
    (((job,), steps),) = planned.timed
    assert job.rank_map == small_space.uniform(4)
    assert (job.seed, job.data_seed, steps) == (5, batch_seed(5), 5)


def test_a_step_costs_its_mean_arithmetic_at_the_quickest_rate(planned, small_task, small_space) -> None:
    found = planned.estimate(training={"steps": 6})
    batches = list(small_task.training_batches(6, batch_seed(0)))
    flops = [
        step_flops(small_task.backbone, small_space.uniform(4), small_task.batch_shapes(batch)) for batch in batches
    ]
    assert found.flops_rate == 10.0
    assert found.step_flops == pytest.approx(fmean(each.total for each in flops))
    assert found.step_seconds == found.step_flops / 10.0
    assert found.evaluation_seconds == 3.0
    assert found.trial_seconds == pytest.approx(6 * found.step_seconds + 3.0)


@pytest.mark.parametrize(("load", "is_told"), [(0.5, False), (3.1, True)])
def test_a_busy_machine_is_told(planned, monkeypatch, load, is_told) -> None:
    monkeypatch.setattr(plan.psutil, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(plan.psutil, "cpu_count", lambda: 2)
    told = "the machine was busy already (load 3.1 on 2 cores): a free one takes less time than this"
    assert planned.estimate().notes == ((told,) if is_told else ())


def test_a_long_training_is_judged_by_its_first_steps(planned, small_task, monkeypatch) -> None:
    monkeypatch.setattr(plan, "_COUNTED_STEPS", 2)
    counted = []
    batches = small_task.training_batches
    monkeypatch.setattr(
        small_task, "training_batches", lambda steps, seed: counted.append(steps) or batches(steps, seed)
    )
    found = planned.estimate(training={"steps": 50})
    assert counted == [2]
    assert found.trial_seconds == pytest.approx(50 * found.step_seconds + 3.0)


@pytest.mark.parametrize(
    ("search", "baselines", "verdict"),
    [
        ({"baselines": [], "verdict_seeds": 0}, (0, 0), 0),
        ({"baselines": ["eva"], "verdict_seeds": 2}, (3, 0), 8),  # one for each rank of the ladder
        ({"baselines": ["eva", "adalora"], "verdict_seeds": 1}, (6, 0), 4),
    ],
)
def test_trainings_beside_the_trials_are_counted(planned, search, baselines, verdict) -> None:
    found = planned.estimate(search={"trials": 30, **search})
    assert (found.trials, found.baselines, found.verdict_trainings) == (30, baselines, verdict)


def test_truncations_are_scored_and_not_trained(planned) -> None:
    trained, scored = planned.estimate(search={"baselines": ["svd"]}).baselines
    assert trained == 1  # the large training
    assert scored >= 3 + 5  # at least to the size of each uniform map, and by energy


def test_what_it_says_of_the_study_is_read_off_task_and_space(planned, small_task, small_space) -> None:
    found = planned.estimate(study="mine")
    assert (found.study, found.space, found.head_parameters, found.cut) == ("mine", small_space, 0, small_task.cut)
    assert small_task.notes == ()


def test_nothing_is_written_and_the_model_stays_as_it_is(small_task, small_space, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "load_study_task", lambda _config: (small_task, small_space))
    before = {name: weight.clone() for name, weight in small_task.backbone.state_dict().items()}
    found = estimate_study(study_config())
    assert min(found.step_flops, found.flops_rate, found.step_seconds, found.evaluation_seconds) > 0
    assert list(tmp_path.iterdir()) == []
    after = small_task.backbone.state_dict()
    assert after.keys() == before.keys()
    assert all(after[name].equal(weight) for name, weight in before.items())
