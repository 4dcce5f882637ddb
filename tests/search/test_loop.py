import dataclasses
import math

import optuna
import pytest
from optuna.trial import TrialState

from rank_search.core.errors import SearchStopped, TrainingFailed
from rank_search.core.evaluation import Evaluation
from rank_search.core.job import Died, FineTuned
from rank_search.core.ranks import Shape
from rank_search.core.space import JointSetting, Space
from rank_search.executors.protocol import Serial
from rank_search.search.queue import MAX_ATTEMPTS
from rank_search.study.folder import StudyFolder
from tests.bench import SPACE, Bench, Landscape, recorded, table_of

pytestmark = pytest.mark.slow


def maps(study) -> list[dict]:
    return [trial.params for trial in study.trials]


def test_uniform_ladder_comes_first(bench) -> None:
    study = bench.search(8)
    assert maps(study)[:4] == [dict.fromkeys(SPACE.dimensions, index) for index in range(4)]
    table = table_of(study)
    assert table["kind"].tolist() == ["baseline:uniform"] * 4 + ["baseline:family"] + ["search"] * 3
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)


def test_objectives_are_the_score_and_the_exact_count(bench) -> None:
    study = bench.search(8)
    for trial in study.trials:
        assert trial.values[1] == SPACE.parameters(SPACE.rank_map(trial.params))


@pytest.mark.parametrize("sampler", ["nehvi", "tpe", "gp", "nsga2", "random"])
def test_same_seed_same_maps_in_one_sitting_or_two(tmp_path, sampler) -> None:
    studies = []
    for name, sittings in (("one", [16]), ("again", [16]), ("two", [8, 16])):
        bench = Bench(_folder(tmp_path, name))
        for trials in sittings:
            study = bench.search(trials, sampler=sampler)
        studies.append(maps(study))
    assert studies[0] == studies[1] == studies[2]
    assert len({tuple(sorted(proposal.items())) for proposal in studies[0]}) == 16


def _folder(tmp_path, name) -> StudyFolder:
    (tmp_path / name).mkdir()
    return StudyFolder(tmp_path / name)


def test_another_seed_proposes_other_maps(tmp_path) -> None:
    proposed = []
    for seed in (0, 1):
        bench = Bench(_folder(tmp_path, str(seed)))
        proposed.append(maps(bench.search(10, seed=seed))[4:])
    assert proposed[0] != proposed[1]


def test_every_map_of_a_small_space_is_tried_once_and_then_the_search_ends(bench) -> None:
    space = Space(SPACE.shapes, {"a": ("layer.0.w", "layer.1.w"), "b": ("layer.2.w", "layer.3.w")}, (0, 1, 2, 4))
    study = bench.search(50, space=space, sampler="tpe")
    assert len(study.trials) == 16
    assert len({key_of(space, trial) for trial in study.trials}) == 16


def key_of(space, trial) -> str:
    return space.rank_map(trial.params).key


def test_failed_trial_is_recorded_with_its_reason_and_the_study_goes_on(bench) -> None:
    wrongs = {
        1: TrainingFailed("the loss is nan at step 3"),
        3: MemoryError("no memory"),
        5: math.nan,
        6: math.inf,
    }
    study = bench.search(8, Landscape(wrongs))
    table = table_of(study)
    assert table["state"].tolist() == ["COMPLETE", "FAIL", "COMPLETE", "FAIL", "COMPLETE", "FAIL", "FAIL", "COMPLETE"]
    reasons = table["reason"].dropna().tolist()
    assert reasons[:2] == ["the loss is nan at step 3", "MemoryError: no memory"]
    assert [reason.startswith("the score is") for reason in reasons[2:]] == [True, True]
    assert not (bench.folder.adapter(6)).exists()


def test_failed_map_is_not_proposed_again(bench) -> None:
    study = bench.search(16, Landscape({5: TrainingFailed("x")}))
    assert len({key_of(SPACE, trial) for trial in study.trials}) == 16


def test_too_many_failures_in_a_row_stop_the_search(bench) -> None:
    wrongs = {n: TrainingFailed(f"reason {n}") for n in (1, 3, 4, 5)}
    with pytest.raises(SearchStopped, match=r"3 trials failed in a row, the last one \(trial 5\) because: reason 5"):
        bench.search(16, Landscape(wrongs), max_failures=2)
    assert len(bench.study().trials) == 6
    assert len(bench.search(16).trials) == 16


class Elsewhere(Serial):
    """As if it trained in other processes, the first of which die."""

    in_process = False

    def __init__(self, train, deaths=0) -> None:
        super().__init__(train)
        self.deaths = deaths

    def wait(self):
        done = super().wait()
        self.deaths -= 1
        return [(pack, [Died()] * len(pack.jobs)) for pack, _ in done] if self.deaths >= 0 else done


class Killed(BaseException):
    """What no ``except Exception`` catches; the trial is left as a kill would leave it."""


def forget_lease(study) -> None:
    """As if the process that holds the lease had died."""
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        lease = {**trial.user_attrs["lease"], "started": 0.0}
        study._storage.set_trial_user_attr(trial._trial_id, "lease", lease)


def test_trial_of_a_dead_driver_is_taken_over_as_if_nothing_had_happened(tmp_path) -> None:
    whole, broken = (Bench(_folder(tmp_path, name)) for name in ("whole", "broken"))
    expected = whole.search(10, sampler="tpe")
    for trials in (2, 6):
        with pytest.raises(Killed):
            broken.search(10, Landscape({trials: Killed()}), sampler="tpe")
        study = broken.study()
        assert study.trials[-1].state == TrialState.RUNNING
        forget_lease(study)
    resumed = broken.search(10, sampler="tpe")
    assert [(trial.number, trial.params, trial.values, trial.state) for trial in resumed.trials] == [
        (trial.number, trial.params, trial.values, trial.state) for trial in expected.trials
    ]
    assert table_of(resumed)["seed"].tolist() == table_of(expected)["seed"].tolist()


def test_trial_of_a_living_driver_is_left_alone_and_waited_for(bench, monkeypatch) -> None:
    with pytest.raises(Killed):
        bench.search(10, Landscape({2: Killed()}))  # this very process holds the lease, and lives
    others = bench.study()
    finished = []

    def sleep(_seconds):
        finished.append(others.trials)
        recorded(bench.handle(), 2)

    monkeypatch.setattr("rank_search.search.loop.time.sleep", sleep)
    executor = Landscape()
    study = bench.search(10, executor)
    assert len(executor.jobs) == 7
    assert sum(trial.state == TrialState.COMPLETE for trial in finished[0]) == 9
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)


def test_sole_driver_takes_over_whatever_the_lease_says(bench) -> None:
    with pytest.raises(Killed):
        bench.search(4, Landscape({2: Killed()}))  # the lease is of this process, which lives
    study = bench.search(4, sole_driver=True)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 4


@pytest.mark.parametrize("elsewhere", [False, True])
def test_interrupts_are_no_deaths(bench, elsewhere) -> None:
    for _ in range(MAX_ATTEMPTS + 1):
        executor = Landscape({0: KeyboardInterrupt()})
        with pytest.raises(KeyboardInterrupt):
            bench.search(2, Elsewhere(executor.train) if elsewhere else executor, sole_driver=True)
    assert bench.study().trials[0].user_attrs.get("attempts", 0) == 0
    study = bench.search(2, sole_driver=True)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2


def test_trial_that_kills_its_process_is_given_up_in_the_end(bench) -> None:
    for _ in range(MAX_ATTEMPTS):
        with pytest.raises(Killed):
            bench.search(4, Landscape({0: Killed()}))
        forget_lease(bench.study())
    study = bench.search(4)
    assert study.trials[0].state == TrialState.FAIL
    assert study.trials[0].user_attrs["reason"] == f"its process died {MAX_ATTEMPTS} times"
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials[1:])


def test_dead_drivers_are_no_fault_of_a_trial_that_trains_elsewhere(bench) -> None:
    for _ in range(MAX_ATTEMPTS + 1):
        with pytest.raises(Killed):
            bench.search(2, Elsewhere(Landscape({0: Killed()}).train))
        forget_lease(bench.study())
    study = bench.search(2, Elsewhere(Landscape().train))
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2


@pytest.mark.parametrize(("deaths", "state"), [(MAX_ATTEMPTS - 1, "COMPLETE"), (MAX_ATTEMPTS, "FAIL")])
def test_dead_workers_are(bench, deaths, state) -> None:
    study = bench.search(2, Elsewhere(Landscape().train, deaths))
    assert [trial.state.name for trial in study.trials] == [state, "COMPLETE"]


def test_results_of_every_trial_are_on_disk(bench) -> None:
    study = bench.search(6)
    for trial in study.trials:
        result = bench.folder.read_result(trial.number)
        assert sum(result["values"]["ndcg@10"]) / 2 == pytest.approx(trial.values[0])
        assert result["losses"] == [1.0, 0.5]
    assert not list(bench.folder.path.rglob("*.partial"))


def test_first_trainings_share_seed_and_batches_and_each_round_of_repeats_has_its_own(bench) -> None:
    """So that maps are compared in pairs."""
    executor = Landscape()
    bench.search(9, executor, repeats=3)
    seeds = [(job.seed, job.data_seed) for job in executor.jobs]
    assert len(set(seeds[:6])) == 1
    assert len(set(seeds[6:])) == 1
    assert seeds[0] != seeds[-1]


def test_raised_budget_goes_on_where_the_study_ended(bench) -> None:
    bench.search(5)
    executor = Landscape()
    study = bench.search(7, executor)
    assert len(executor.jobs) == 2
    assert len(study.trials) == 7


def test_baselines_above_the_budget_wait_for_a_larger_one(bench) -> None:
    assert maps(bench.search(2)) == [dict.fromkeys(SPACE.dimensions, index) for index in range(2)]
    assert maps(bench.search(5))[:4] == [dict.fromkeys(SPACE.dimensions, index) for index in range(4)]


def test_ladder_without_zero_of_a_single_dimension(bench) -> None:
    space = Space({"a": Shape(4, 4)}, {"a": ("a",)}, (1, 2, 3))
    study = bench.search(3, _OneLayer(), space=space)
    assert [trial.params for trial in study.trials] == [{"a": 0}, {"a": 1}, {"a": 2}]


class _OneLayer(Landscape):
    def train_one(self, job):
        return FineTuned(Evaluation("ndcg@10", {"ndcg@10": [0.5, 0.6]}), (), 0.0, None)


JOINT = {
    "alpha": JointSetting(1, 16, 4, log=True),
    "dropout": JointSetting(0, 0.3, 0),
    "augmentation": JointSetting(0, 1, 0, switch=True),
}


@pytest.mark.parametrize("sampler", ["nehvi", "tpe", "gp", "nsga2", "random"])
def test_joint_settings_are_searched_beside_the_ranks(bench, sampler) -> None:
    space = dataclasses.replace(SPACE, joint=JOINT)
    executor = Landscape()
    study = bench.search(12, executor, space, sampler=sampler)
    settings = [job.settings for job in executor.jobs]
    assert settings[:4] == [{"alpha": 4, "dropout": 0, "augmentation": 0}] * 4  # baselines, at the study file's own
    assert all(1 <= found["alpha"] <= 16 and 0 <= found["dropout"] <= 0.3 for found in settings)
    # All but one of the samplers draw a real number anew each time; the other also tries other ranks with it.
    assert len({found["alpha"] for found in settings[4:]}) >= (4 if sampler == "nehvi" else 8)
    assert {found["augmentation"] for found in settings[4:]} <= {0, 1}
    table = table_of(study, space)
    assert table["settings"].tolist() == settings
    assert table["trainable_parameters"].tolist() == [space.parameters(job.rank_map) for job in executor.jobs]


def test_same_map_at_other_settings_is_another_proposal(bench) -> None:
    """One map and one switch: two proposals, and no third."""
    switch = {"augmentation": JointSetting(0, 1, 0, switch=True)}
    space = Space({"a": Shape(4, 4)}, {"a": ("a",)}, (1,), switch)
    assert space.size == 2
    executor = Landscape(weights=(1,))
    study = bench.search(5, executor, space)
    assert sorted(job.settings["augmentation"] for job in executor.jobs) == [0, 1]
    assert len(study.trials) == 2
    assert dataclasses.replace(space, joint=JOINT).size == math.inf


def test_pack_trains_several_trials_together_and_tells_each(bench) -> None:
    executor = Landscape()
    study = bench.search(14, executor, pack=3)
    # What is planned and what is proposed are not mixed: proposals see the scores of all baselines.
    assert executor.packs == [[0, 1, 2], [3, 4], [5], [6, 7, 8], [9, 10, 11], [12, 13]]
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)
    assert len({key_of(SPACE, trial) for trial in study.trials}) == 14


def test_trials_of_a_killed_pack_are_trained_again_together(bench, tmp_path) -> None:
    expected = bench.search(12, pack=4, sampler="tpe")
    broken = Bench(_folder(tmp_path, "broken"))
    with pytest.raises(Killed):
        broken.search(12, Landscape({6: Killed()}), pack=4, sampler="tpe")
    running = [trial for trial in broken.study().trials if trial.state == TrialState.RUNNING]
    assert [trial.number for trial in running] == [5, 6, 7]
    forget_lease(broken.study())
    executor = Landscape()
    resumed = broken.search(12, executor, pack=4, sampler="tpe")
    assert executor.packs[0] == [5, 6, 7]
    assert maps(resumed) == maps(expected)
    assert [trial.values for trial in resumed.trials] == [trial.values for trial in expected.trials]


@pytest.mark.parametrize("moment", [2, 6, 11])
def test_kill_between_two_asks_of_a_pack_changes_nothing(bench, tmp_path, monkeypatch, moment) -> None:
    expected = bench.search(12, pack=4, sampler="tpe")
    broken = Bench(_folder(tmp_path, "broken"))
    ask, asked = optuna.Study.ask, []

    def killed(*arguments, **options):
        asked.append(ask(*arguments, **options))
        if len(asked) == moment:
            raise Killed
        return asked[-1]

    monkeypatch.setattr(optuna.Study, "ask", killed)
    with pytest.raises(Killed):
        broken.search(12, pack=4, sampler="tpe", sole_driver=True)
    monkeypatch.undo()
    resumed = broken.search(12, pack=4, sampler="tpe", sole_driver=True)
    assert maps(resumed) == maps(expected)


def test_raised_budget_that_cut_a_pack_changes_nothing_else(bench, tmp_path) -> None:
    expected = maps(bench.search(16, pack=4, sampler="tpe"))
    other = Bench(_folder(tmp_path, "other"))
    other.search(12, pack=4, sampler="tpe")
    assert maps(other.search(16, pack=4, sampler="tpe")) == expected


def test_deadly_trial_of_a_pack_is_found_and_spares_the_others(bench) -> None:
    class Deadly(Landscape):
        def train(self, jobs, on_step):
            if any(job.number == 6 for job in jobs):
                raise Killed
            return super().train(jobs, on_step)

    for _ in range(40):
        try:
            bench.search(12, Deadly(), pack=4, sole_driver=True)
        except Killed:
            continue
        break
    trials = bench.study().trials
    assert len(trials) == 12
    assert [trial.number for trial in trials if trial.state == TrialState.FAIL] == [6]


def test_reason_of_a_failure_is_one_line(bench) -> None:
    study = bench.search(6, Landscape({5: RuntimeError("CUDA error\n  at some place")}))
    assert study.trials[5].user_attrs["reason"] == "RuntimeError: CUDA error at some place"


def test_failed_map_of_a_pack_fails_alone(bench) -> None:
    class Poisoned(Landscape):
        def train(self, jobs, on_step):
            found = super().train(jobs, on_step)
            return [TrainingFailed("nan") if job.number == 5 else of for job, of in zip(jobs, found, strict=True)]

    study = bench.search(8, Poisoned(), pack=4)
    assert [trial.number for trial in study.trials if trial.state == TrialState.FAIL] == [5]


class Hopeless(Landscape):
    """Everything fails from trial 4 on."""

    def train(self, jobs, on_step):
        found = super().train(jobs, on_step)
        return [of if job.number < 4 else TrainingFailed("nan") for job, of in zip(jobs, found, strict=True)]


def test_pack_is_told_whole_before_a_hopeless_search_stops(bench) -> None:
    with pytest.raises(SearchStopped, match=r"4 trials failed in a row, the last one \(trial 7\)"):
        bench.search(10, Hopeless(), pack=4, max_failures=1)
    states = [trial.state for trial in bench.study().trials]
    assert states == [TrialState.COMPLETE] * 4 + [TrialState.FAIL] * 4
