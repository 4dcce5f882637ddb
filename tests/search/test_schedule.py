"""Baselines before the search, and repeats after it."""

import dataclasses

import pytest

from rank_search.analysis.choice import choose, contested
from rank_search.analysis.comparison import Comparison
from rank_search.analysis.evidence import study_evidence
from rank_search.analysis.maps import study_maps
from rank_search.core.choice import DEFAULT_RULE, Rule
from rank_search.core.errors import TrainingFailed
from rank_search.core.evaluation import Evaluation
from rank_search.core.ranks import RankMap
from rank_search.core.seeds import batch_seed
from rank_search.study.folder import StudyFolder
from tests.bench import SPACE, Bench, Landscape, study_config, table_of
from tests.search.test_loop import Killed, forget_lease

pytestmark = pytest.mark.slow

ALL = ["svd", "eva", "adalora"]
UNIFORM = ["baseline:uniform"] * 4
SVD = ["baseline:svd"] * (
    1 + 2 + 3 + 5
)  # the large training; cuts to 1/4 and 1/2 of rank 1, to uniform prices, by share
OUTSIDE = SVD + ["baseline:eva"] * 3 + ["baseline:adalora"] * 3
# The fourth retrained map would be the largest uniform one; the only family of layers of one module is the upper half.
STARTS = ["baseline:retrained"] * 3 + ["baseline:family"]


def test_every_baseline_comes_before_the_search_and_beside_its_budget(bench) -> None:
    table = table_of(bench.search(10, baselines=ALL))
    assert table["kind"].tolist()[:-1] == UNIFORM + OUTSIDE + STARTS + ["search"] * 2
    assert table["kind"].tolist()[-1] == "baseline:svd"  # cut to the price of the choice
    assert (table["state"] == "COMPLETE").all()
    names = table[~table["in_space"]]["label"].tolist()
    assert names[0] == "large training for SVD, rank 8"
    assert "SVD truncated to 90% of each module's energy" in names
    assert names[-2] == "AdaLoRA from rank 4"
    assert len(set(names)) == len(OUTSIDE) + 1


class Trained(Landscape):
    """What is cut and not trained scores less."""

    def train_one(self, job):
        outcome = super().train_one(job)
        worse = [value - 0.1 for value in outcome.evaluation.values["ndcg@10"]]
        return (
            dataclasses.replace(outcome, evaluation=Evaluation("ndcg@10", {"ndcg@10": worse}))
            if job.source
            else outcome
        )


def test_the_last_baseline_is_cut_to_the_price_of_the_choice(bench) -> None:
    uneven = Trained(weights=(2.0, -0.5, -0.5, 0.1))
    study = bench.search(14, uneven, baselines=["svd"])
    chosen = choose(study_evidence(bench.handle()), Rule(DEFAULT_RULE))
    assert chosen.recipe == "scratch"
    last = table_of(study).iloc[-1]
    assert (last["recipe"], last["budget"]) == ("truncate", chosen.trainable_parameters)
    assert chosen.trainable_parameters - 23 < last["trainable_parameters"] <= chosen.trainable_parameters
    assert len(bench.search(14, uneven, baselines=["svd"]).trials) == len(study.trials)
    comparison = Comparison.from_evidence(study_evidence(bench.handle()), Rule(DEFAULT_RULE))
    assert comparison.baselines["svd"].trainable_parameters <= chosen.trainable_parameters


@pytest.mark.parametrize("trials", [1, 4])
def test_a_small_budget_cuts_no_baseline(bench, trials) -> None:
    assert table_of(bench.search(trials, baselines=ALL))["kind"].tolist()[: trials + len(OUTSIDE)] == (
        UNIFORM[:trials] + OUTSIDE
    )


def test_truncations_cost_no_more_than_the_uniform_maps(bench) -> None:
    table = table_of(bench.search(4, baselines=["svd"])).set_index("label")
    smallest = SPACE.parameters(SPACE.uniform(1))
    for price in (smallest // 4, smallest // 2, smallest, 2 * smallest, 4 * smallest):
        cut = table.loc[f"SVD truncated to {price:,} parameters"]
        assert price - 23 < cut["trainable_parameters"] <= price


def test_price_is_that_of_the_ranks_that_came_out(bench) -> None:
    executor = Landscape()
    study = bench.search(4, executor, baselines=["eva"])
    row = table_of(study).set_index("label").loc["EVA from rank 2"]
    assert list(row["ranks"].values()) == [1, 2, 2, 3]
    assert row["trainable_parameters"] == sum(r * sum(SPACE.shapes[name]) for name, r in row["ranks"].items())
    assert [job.recipe for job in executor.jobs[4:]] == ["eva"] * 3


def test_truncations_are_cut_out_of_the_large_adapter(bench) -> None:
    executor = Landscape()
    bench.search(4, executor, baselines=["svd"])
    assert executor.jobs[4].rank_map == SPACE.uniform(8)
    assert {job.recipe for job in executor.jobs[5:]} == {"truncate"}
    assert {job.source for job in executor.jobs[5:]} == {bench.folder.adapter(4)}


def test_without_the_large_training_there_are_no_truncations_and_the_search_goes_on(bench) -> None:
    wrongs = {n: TrainingFailed(f"wrong {n}") for n in range(4, 11)}  # more in a row than max_failures
    table = table_of(bench.search(8, Landscape(wrongs), baselines=ALL))
    after = ["baseline:family", *["search"] * 3]
    assert table["kind"].tolist() == [*UNIFORM, "baseline:svd", *OUTSIDE[len(SVD) :], *after]
    assert table["reason"].dropna().tolist() == [f"wrong {n}" for n in range(4, 11)]


def test_the_search_starts_from_cuts_of_the_large_adapter(bench) -> None:
    study = bench.search(9, baselines=["svd"])
    starts = [trial for trial in study.trials if trial.user_attrs.get("kind") == "baseline:retrained"]
    assert len(starts) == 3
    # The weights of the landscape are 0.5, 0.1, 0.3, 0.2: so are the first cuts.
    assert list(SPACE.rank_map(starts[0].params).ranks.values()) == [1, 0, 0, 0]


@pytest.mark.parametrize("sampler", ["nehvi", "tpe", "gp", "nsga2", "random", "grid"])
def test_samplers_see_the_trials_of_the_space_alone(tmp_path, sampler) -> None:
    plain = Bench(_folder(tmp_path, "plain")).search(7, sampler=sampler)
    beside = Bench(_folder(tmp_path, "beside")).search(7, sampler=sampler, baselines=["eva"])
    assert len(plain.trials) == 7
    proposed = [trial.params for trial in beside.trials if trial.params]
    assert len({tuple(sorted(params.items())) for params in proposed}) == 7


def _folder(tmp_path, name) -> StudyFolder:
    (tmp_path / name).mkdir()
    return StudyFolder(tmp_path / name)


def test_repeats_come_last_on_batches_that_their_round_shares(bench) -> None:
    executor = Landscape(noise=0.02)
    table = table_of(bench.search(10, executor, repeats=2))
    assert table["batch_order"].tolist() == [0] * 8 + [1] * 2
    assert {job.data_seed for job in executor.jobs[:8]} == {batch_seed(0)}
    assert {job.data_seed for job in executor.jobs[8:]} == {batch_seed(0, 1)} != {batch_seed(0)}
    assert [len({job.seed for job in jobs}) for jobs in (executor.jobs[:8], executor.jobs[8:])] == [1, 1]  # in pairs
    assert executor.jobs[0].seed != executor.jobs[8].seed
    assert len({job.rank_map.key for job in executor.jobs[8:]}) == 2
    maps = study_maps(bench.handle())
    assert sorted(maps["seeds"]) == [1] * 6 + [2] * 2
    assert maps["se_seeds"].notna().all()


def test_many_repeats_are_several_rounds(bench) -> None:
    table = table_of(bench.search(22, Landscape(noise=0.02), repeats=12))
    orders = table["batch_order"].tolist()
    assert orders[:12] == [0] * 10 + [1] * 2
    assert min(orders[10:]) == 1
    assert len(orders) == 22


def test_repeats_go_where_the_choice_is_in_doubt(bench) -> None:
    executor = Landscape(noise=0.02)
    bench.search(8, executor)
    evidence = study_evidence(bench.handle())
    bench.search(10, executor, repeats=2)
    repeated = [job.rank_map for job in executor.jobs[8:]]
    adapted = {number for number, trial in evidence.by_number.items() if trial.trainable_parameters}
    contender, best = next(pair for pair in contested(evidence) if adapted.issuperset(pair))
    assert repeated == [RankMap(evidence.by_number[number].ranks) for number in (best, contender)]
    assert best in {test.front[-1] for test in evidence.tests}  # with which all are compared


def test_the_untrained_model_is_never_repeated(bench) -> None:
    executor = Landscape(noise=0.02)
    bench.search(7, executor, repeats=4)
    assert all(job.rank_map.adapted for job in executor.jobs[3:])


def test_failed_repeat_leaves_its_map_as_it_was(bench) -> None:
    table = table_of(bench.search(8, Landscape({6: TrainingFailed("x")}, noise=0.02), repeats=3))
    assert table["state"].tolist() == ["COMPLETE"] * 6 + ["FAIL", "COMPLETE"]
    assert len(study_maps(bench.handle())) == 5


@pytest.mark.parametrize("pack", [1, 4])
def test_all_of_it_comes_out_the_same_whenever_it_is_killed(tmp_path, pack) -> None:
    settings = {"baselines": ["svd", "eva"], "repeats": 4, "sampler": "random", "pack": pack}
    whole = Bench(_folder(tmp_path, "whole")).search(12, Landscape(noise=0.02), **settings)
    broken = Bench(_folder(tmp_path, "broken"))
    for trial in (2, 3, 5, 4, 6):
        with pytest.raises(Killed):
            broken.search(12, Landscape({trial: Killed()}, noise=0.02), **settings)
        forget_lease(broken.study())
    resumed = broken.search(12, Landscape(noise=0.02), **settings)
    for one, other in zip(whole.trials, resumed.trials, strict=True):
        assert (one.params, one.values, one.state) == (other.params, other.values, other.state)
        for name in ("kind", "batch_order", "recipe", "budget", "energy", "requested_ranks", "ranks", "seed"):
            assert one.user_attrs.get(name) == other.user_attrs.get(name)


def test_schedule_is_done_when_nothing_is_left(bench) -> None:
    config = study_config(search={"trials": 8, "repeats": 2, "baselines": ["svd"]})
    executor = Landscape(noise=0.02)
    study = bench.open()
    assert not bench.schedule(study, config, executor).is_done(study.trials())
    bench.search(8, executor, repeats=2, baselines=["svd"])
    study = bench.handle()
    trials = study.trials()
    assert bench.schedule(study, config, executor).is_done(trials)
    assert not bench.schedule(study, config, executor).is_done(trials[:-1])
    more = study_config(search={"trials": 9, "repeats": 2, "baselines": ["svd"]})
    assert not bench.schedule(study, more, executor).is_done(trials)


def test_prior_is_tried_after_the_uniform_maps(bench) -> None:
    """Once, wherever the search is interrupted."""
    prior = SPACE.rank_map({name: i % 4 for i, name in enumerate(SPACE.dimensions)})
    bench.search(3)
    study = bench.handle()
    schedule = dataclasses.replace(bench.schedule(study, study_config(search={"trials": 8})), prior=prior)
    assert schedule.first(study.trials()).candidate.rank_map == SPACE.uniform(4)  # three of four uniform maps are there
    bench.search(4)
    request = schedule.first(study.trials())
    assert (request.candidate.rank_map, request.kind) == (prior, "search")
    study.enqueue(request)
    assert schedule.first(study.trials()).kind == "baseline:family"
