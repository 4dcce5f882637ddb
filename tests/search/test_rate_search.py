"""The search for learning rates."""

import math
from dataclasses import replace

import pytest

from rank_search.core.errors import TrainingFailed
from rank_search.core.evaluation import Evaluation
from rank_search.core.job import FineTuned, no_callback
from rank_search.core.rates import LearningRates
from rank_search.core.space import JointSetting
from rank_search.executors.protocol import Serial
from rank_search.search.rate_search import RateSearch
from rank_search.study.record import TrialAttributes, keep
from tests.bench import SPACE, Landscape, study_config
from tests.search.test_loop import Killed

BASE = study_config().training.learning_rate


class Hill:
    """Scores fall with the distance from the best rate, which is the lower the larger the map."""

    def __init__(self, best: dict[int, float], head: float = BASE, fails=lambda _rate: False) -> None:
        self.best, self.head, self.fails, self.jobs = best, head, fails, []

    def train(self, jobs, on_step=no_callback):
        self.jobs += jobs
        return [self._outcome(job) for job in jobs]

    def _outcome(self, job):
        rank = max(job.rank_map.ranks.values())
        rate = job.settings["learning_rate"] if rank else job.settings["head_learning_rate"]
        if self.fails(rate):
            return TrainingFailed("loss is nan")
        score = 0.8 - 0.1 * abs(math.log(rate / (self.best[rank] if rank else self.head)))
        values = {"ndcg@10": [score + 0.1, score - 0.1, 9.0]}  # the last example is for the choice alone
        return FineTuned(Evaluation("ndcg@10", values, selection=1), (), 1.0, None)


def found(bench, hill, factors=(0.5, 2.0), *, pack=4, has_head=False, study=None) -> LearningRates:
    config = study_config(search={"tune_uniform": list(factors)})
    search = RateSearch(study or bench.open(), config, pack, has_head)
    return search.run(Serial(hill.train), no_callback)


def test_each_size_gets_its_best_rate(bench) -> None:
    hill = Hill({1: 2 * BASE, 4: BASE / 2})
    rates = found(bench, hill, (0.25, 0.5, 2.0, 4.0))
    sizes = [SPACE.parameters(SPACE.uniform(rank)) for rank in (1, 4)]
    assert rates.points == ((sizes[0], 2 * BASE), (sizes[1], BASE / 2))
    assert len(hill.jobs) == 10 + 1
    assert {job.split for job in hill.jobs} == {"validation"}
    assert len({(job.seed, job.data_seed) for job in hill.jobs}) == 1  # in pairs
    note = f"Learning rate of uniform rank 1: {2 * BASE:.2g}, the best of 5 tried (0.8000; untuned, at {BASE:g}, 0.7"
    assert rates.notes[0].startswith(note)


def test_a_best_rate_at_the_edge_is_followed_beyond_it(bench) -> None:
    hill = Hill({1: 8 * BASE, 4: BASE})
    rates = found(bench, hill)
    assert rates.points[0][1] == pytest.approx(8 * BASE)
    assert len(hill.jobs) == 6 + 3 + 1  # 4, 8 and 16 times the base rate for rank 1
    assert "edge" not in rates.notes[0]


def test_a_rate_that_stays_at_the_edge_is_told(bench) -> None:
    rates = found(bench, Hill({1: 1e6 * BASE, 4: BASE}))
    assert rates.points[0][1] == pytest.approx(16 * BASE)
    assert rates.notes[0].endswith("it lies at the edge of those tried, so another may be better still.")


def test_a_head_has_a_rate_of_its_own_at_which_adapters_are_tuned(bench) -> None:
    hill = Hill({1: BASE, 4: BASE}, head=8 * BASE)
    rates = found(bench, hill, has_head=True)
    assert rates.head == pytest.approx(8 * BASE)
    assert {job.settings.get("head_learning_rate") for job in hill.jobs if job.rank_map.adapted} == {rates.head}
    assert rates.notes[0].startswith("Learning rate of the head: ")


def test_rates_that_diverge_are_passed_over(bench) -> None:
    hill = Hill({1: 4 * BASE, 4: 4 * BASE}, fails=lambda rate: rate > 1.5 * BASE)
    assert [rate for _, rate in found(bench, hill).points] == [BASE, BASE]
    nothing = found(bench, Hill({}, fails=lambda _rate: True), study=bench.handle(), factors=(3.0,))
    assert [rate for _, rate in nothing.points] == [BASE, BASE]


def test_of_equal_rates_the_study_files_own_is_kept(bench) -> None:
    """Where all score the same, nothing is a reason to go elsewhere, or beyond an edge."""

    class Plateau(Hill):
        def _outcome(self, job):
            return FineTuned(Evaluation("ndcg@10", {"ndcg@10": [0.5, 0.5]}), (), 1.0, None)

    hill = Plateau({})
    rates = found(bench, hill)
    assert [rate for _, rate in rates.points] == [BASE, BASE]
    assert len(hill.jobs) == 6 + 1
    assert not any("edge" in note for note in rates.notes)


@pytest.mark.parametrize(
    ("gained", "said"),
    [(0.2, "it is undertrained; raise training.steps"), (0.0, "nothing shows that its steps are too few")],
)
def test_twice_the_steps_tell_whether_the_studys_own_suffice(bench, gained, said) -> None:
    class Longer(Hill):
        def _outcome(self, job):
            outcome = super()._outcome(job)
            if "steps" not in job.settings:
                return outcome
            values = [value + gained for value in outcome.evaluation.values["ndcg@10"]]
            return replace(outcome, evaluation=replace(outcome.evaluation, values={"ndcg@10": values}))

    hill = Longer({1: BASE, 4: BASE})
    rates = found(bench, hill)
    (job,) = [job for job in hill.jobs if "steps" in job.settings]
    assert job.settings["steps"] == 2 * study_config().training.steps
    assert said in rates.notes[-1]


def test_what_is_trained_is_not_trained_again(bench) -> None:
    study = bench.open()

    class Dies(Hill):
        def train(self, jobs, on_step=no_callback):
            if len(self.jobs) >= 4:
                raise Killed
            return super().train(jobs)

    with pytest.raises(Killed):
        found(bench, Dies({1: BASE, 4: BASE}), study=study)
    again = Hill({1: BASE, 4: BASE})
    rates = found(bench, again, study=study)
    assert len(again.jobs) == 2 + 1
    assert [rate for _, rate in rates.points] == [BASE, BASE]


def test_rates_are_searched_before_the_first_trial_unless_they_are_searched_beside_the_ranks(bench) -> None:
    wanted = study_config(search={"tune_uniform": [2.0]})
    study = bench.open()
    assert RateSearch.is_wanted(study, wanted)
    assert not RateSearch.is_wanted(study, study_config(search={"tune_uniform": []}))
    bench.search(2)
    assert not RateSearch.is_wanted(bench.handle(), wanted)  # an older study goes on as it was started


def test_rates_beside_the_ranks_are_left_to_the_sampler(bench) -> None:
    space = replace(SPACE, joint={"learning_rate": JointSetting(1e-4, 1e-2, BASE, log=True)})
    assert not RateSearch.is_wanted(bench.open(space), study_config(search={"tune_uniform": [2.0]}))


def test_every_trial_is_trained_at_the_rate_of_its_size(bench) -> None:
    rates = LearningRates(((10, 0.01), (1000, 0.001)), head=0.05)
    study = bench.open()
    study.keep_rates(rates)
    assert study.rates == rates
    executor = Landscape()
    bench.search(8, executor, baselines=["svd", "eva"], repeats=2)
    assert executor.jobs
    for job in executor.jobs:
        assert dict(job.settings) == pytest.approx(rates.settings(SPACE.parameters(job.rank_map)))
    trials = bench.handle().trials()
    assert all(trial.candidate.settings for trial in trials)
    repeats = [trial for trial in trials if trial.attributes.batch_order]
    firsts = {trial.candidate.key for trial in trials if not trial.attributes.batch_order}
    assert repeats
    assert {trial.candidate.key for trial in repeats} <= firsts


def test_settings_of_a_trial_are_read_as_they_were_kept(bench) -> None:
    bench.search(1)
    study = bench.handle()
    trial = study.optuna_study.ask()
    keep(trial, settings={"learning_rate": 0.25})
    assert TrialAttributes.read(trial).settings == {"learning_rate": 0.25}
