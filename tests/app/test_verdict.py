"""What comes after the search."""

import json
from dataclasses import replace

import pytest

from rank_search.app.verdict import FreshVerdict, check_trained, is_measured, measure_on_test, train_afresh
from rank_search.core.errors import RankSearchError, SearchStopped, TrainingFailed
from rank_search.core.evaluation import Evaluation
from rank_search.core.job import no_callback
from rank_search.executors.protocol import Serial
from rank_search.tasks.base import Example, Output
from tests.bench import Landscape, study_config

pytestmark = pytest.mark.slow

CONFIG = study_config(search={"verdict_seeds": 2})


class Executor(Serial):
    """Trains by a formula, and remembers what it evaluates."""

    def __init__(self) -> None:
        self.landscape = Landscape()
        super().__init__(self.landscape.train)
        self.evaluated: list[tuple] = []

    def evaluate(self, adapter, split) -> Evaluation:
        self.evaluated.append((adapter, split))
        score = 0.1 if adapter is None else 0.5
        return Evaluation("ndcg@10", {"ndcg@10": [score, score + 0.2], "mrr@10": [0.25, 0.75]})


class Shown:
    """A task of which only examples are asked for."""

    def examples(self, split, before, after) -> list[Example]:
        assert before.score < after.score
        return [Example("largest gain", f"a query of {split}", "", Output(), Output())]


@pytest.fixture
def study(bench):
    bench.search(5)
    return bench.handle()


@pytest.fixture
def executor() -> Executor:
    return Executor()


def comparison_of(study):
    return FreshVerdict.of_choice(study, CONFIG).comparison


def train(study, executor, most=2, on_progress=no_callback) -> None:
    train_afresh(FreshVerdict.of_choice(study, CONFIG), most, executor, on_progress)


def measure(study, executor, task=None) -> None:
    measure_on_test(study, comparison_of(study), executor, task or Shown())


def steps(study, executor) -> None:
    train(study, executor)
    measure(study, executor)


class Diverging(Landscape):
    """No adapter can be trained, but rank 0 has its score."""

    def train(self, jobs, on_step=no_callback):
        outcomes = super().train(jobs, on_step)
        failed = TrainingFailed("the loss is not finite after step 3", "not finite")
        return [
            failed if any(job.rank_map.ranks.values()) else outcome for job, outcome in zip(jobs, outcomes, strict=True)
        ]


def test_study_in_which_nothing_could_be_trained_has_no_verdict(bench) -> None:
    bench.search(5, Diverging(), max_failures=100)
    message = r"all \d+ trainings failed, \d+ of them because: the loss is not finite after step 3; .*learning_rate"
    with pytest.raises(SearchStopped, match=message):
        check_trained(bench.handle())


def test_one_training_with_a_score_is_enough(study) -> None:
    check_trained(study)


def test_nothing_is_compared_before_there_is_a_score(bench) -> None:
    with pytest.raises(RankSearchError, match="no trial of the study has a score yet"):
        comparison_of(bench.open())


def test_it_is_measured_when_both_parts_are_on_record(study, executor) -> None:
    assert not is_measured(study, CONFIG)
    measure(study, executor)
    assert not is_measured(study, CONFIG)  # fresh trainings are missing
    assert is_measured(study, study_config(search={"verdict_seeds": 0}))
    train(study, executor)
    assert is_measured(study, CONFIG)
    assert not is_measured(study, study_config(search={"verdict_seeds": 3}))


def test_fresh_trainings_are_of_each_compared_map_on_the_test_split(study, executor) -> None:
    seen = []
    train(study, executor, on_progress=lambda done, total: seen.append((done, total)))
    compared = {trial.number: trial.fresh for trial in comparison_of(study).trials.values()}
    jobs = executor.landscape.jobs
    assert len(jobs) == 2 * len({candidate.key for candidate in compared.values()})
    assert {job.candidate.key for job in jobs} == {candidate.key for candidate in compared.values()}
    assert {job.split for job in jobs} == {"test"}
    assert seen[0] == (0, len(jobs))
    assert seen[-1] == (len(jobs), len(jobs))


def test_a_second_run_trains_and_scores_nothing(study, executor) -> None:
    steps(study, executor)
    again = Executor()
    steps(study, again)
    assert (again.landscape.jobs, again.evaluated) == ([], [])


def test_saved_adapters_and_the_untrained_model_are_scored_on_the_test_split(study, executor) -> None:
    measure(study, executor)
    numbers = comparison_of(study).numbers
    adapters = [study.folder.adapter(number) for number in dict.fromkeys(numbers.values())]
    assert executor.evaluated == [(None, "test"), *((adapter, "test") for adapter in adapters)]
    kept = study.folder.read_test(numbers)
    assert kept["values"] == {"untrained": pytest.approx([0.1, 0.3]), **{role: [0.5, 0.7] for role in numbers}}
    assert kept["metrics"]["chosen"] == {"ndcg@10": pytest.approx(0.6), "mrr@10": 0.5}
    assert [example["text"] for example in kept["examples"]] == ["a query of test"]
    json.loads((study.folder.path / "test.json").read_text())


def test_another_choice_is_measured_anew(study, executor) -> None:
    measure(study, executor)
    content = json.loads((study.folder.path / "test.json").read_text())
    study.folder.write_test({**content["trials"], "chosen": 99}, {})
    assert not is_measured(study, study_config(search={"verdict_seeds": 0}))
    measure(study, executor)
    assert study.folder.read_test(comparison_of(study).numbers)


def test_an_adapter_that_is_gone_is_named_with_what_to_do(study, executor) -> None:
    chosen = comparison_of(study).chosen.number
    study.folder.keep_adapters([])
    with pytest.raises(RankSearchError) as refused:
        measure(study, executor)
    assert str(refused.value) == (
        f"{study.folder.adapter(chosen)}: the adapter of trial {chosen} is gone; restore it, or train it again by "
        f"export --trial {chosen} --to peft --retrain"
    )
    assert not (study.folder.path / "test.json").exists()


class Flat(Landscape):
    """No map is better than the untrained model."""

    weights = (0.0, 0.0, 0.0, 0.0)

    def __init__(self) -> None:
        super().__init__(weights=self.weights)


class Alike:
    def examples(self, split, before, after) -> list[Example]:
        return []


def test_the_untrained_model_stands_for_rank_0_everywhere(bench, executor) -> None:
    bench.search(5, Flat())
    study = bench.handle()
    comparison = comparison_of(study)
    assert comparison.chosen.trainable_parameters == 0
    measure(study, executor, Alike())
    values = study.folder.read_test(comparison.numbers)["values"]
    assert values["chosen"] == values["untrained"]


def test_a_head_is_trained_even_at_rank_0_everywhere(bench, executor) -> None:
    bench.search(5, Flat())
    study = replace(bench.handle(), metadata=replace(bench.handle().metadata, head=("classifier",)))
    with pytest.raises(RankSearchError, match=r"the adapter of trial \d+ is gone; restore it, or train it again"):
        measure(study, executor, Alike())
